//! The costs of the parts of a step, measured or described.

use lengthwise_core::{Bytes, Seconds, Strategy};
use lengthwise_cost::{ClusterLinks, CostModel, ExchangeEfficiency, Link, TokenBytes, TokenVolume};

use crate::SimError;

/// The bytes that ranks gather and scatter in every micro-batch, over all layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardedBytes {
    /// The model's parameters as they are sent.
    pub parameters: Bytes,
    /// Their gradients as they are sent.
    pub gradients: Bytes,
}

/// How the bytes of a step travel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    /// Each as long as it was measured to take, whatever else is under way.
    Measured,
    /// Over links that all share.
    Links {
        links: ClusterLinks,
        /// The parts of devices' links and of NICs that exchanges reach.
        exchange_efficiency: Option<ExchangeEfficiency>,
        /// From each device to the memory of its host, each way; none takes no time.
        host: Option<Link>,
        sharded: ShardedBytes,
        micro_batch_overhead: Seconds,
    },
}

/// The costs of the parts of a step.
///
/// Computing always comes from a [`CostModel`]. The rest has two sources, which are told apart here and nowhere else:
///
/// | | [`StepCosts::measured`] | [`StepCosts::over_links`] |
/// | --- | --- | --- |
/// | an exchange | takes its time by the model | moves its bytes over links |
/// | a block in a ring, a copy to the host | is waited for as long as the model leaves unhidden | moves its bytes while others compute |
/// | gathers and scatters | are part of the micro-batch's overhead | move their bytes over links |
/// | overhead | that of the model | what is given beside |
#[derive(Clone, Copy)]
pub struct StepCosts<'a> {
    pub(crate) model: &'a dyn CostModel,
    pub(crate) num_layers: u32,
    exchange_bytes_per_token: f64,
    token_volume: Option<&'a dyn TokenVolume>,
    pub(crate) optimizer: Seconds,
    pub(crate) transport: Transport,
}

impl<'a> StepCosts<'a> {
    /// Costs as they were measured, over `num_layers` equal layers.
    ///
    /// `exchange_bytes_per_token` is what all exchanges of a step pass on for each token, over the group's devices
    /// together.
    ///
    /// # Errors
    ///
    /// No layers, or bytes that are negative or not finite.
    pub fn measured(
        model: &'a dyn CostModel,
        num_layers: u32,
        exchange_bytes_per_token: f64,
    ) -> Result<Self, SimError> {
        if num_layers == 0 {
            return Err(SimError::NoLayers);
        }
        check(
            "exchange_bytes_per_token",
            exchange_bytes_per_token,
            exchange_bytes_per_token >= 0.0,
            "not negative",
        )?;
        Ok(StepCosts {
            model,
            num_layers,
            exchange_bytes_per_token,
            token_volume: None,
            optimizer: Seconds::ZERO,
            transport: Transport::Measured,
        })
    }

    /// These costs with everything that travels moved over links.
    ///
    /// The model's own overhead covers gathers and scatters, which are simulated now: what is left of it, such as
    /// kernel launches, is `micro_batch_overhead`.
    #[must_use]
    pub fn over_links(
        mut self,
        links: ClusterLinks,
        sharded: ShardedBytes,
        micro_batch_overhead: Seconds,
    ) -> Self {
        self.transport = Transport::Links {
            links,
            exchange_efficiency: None,
            host: None,
            sharded,
            micro_batch_overhead,
        };
        self
    }

    /// These costs where exchanges reach only a part of the bandwidth of links; gathers and scatters reach all of it.
    /// Where exchanges have their measured times, it changes nothing.
    #[must_use]
    pub fn with_exchange_efficiency(mut self, efficiency: ExchangeEfficiency) -> Self {
        if let Transport::Links {
            exchange_efficiency,
            ..
        } = &mut self.transport
        {
            *exchange_efficiency = Some(efficiency);
        }
        self
    }

    /// These costs where it is known what tokens have of each thing that travels. Otherwise it follows from what is exchanged
    /// ([`TokenBytes::exchanging`]).
    #[must_use]
    pub fn with_token_volume(mut self, volume: &'a dyn TokenVolume) -> Self {
        self.token_volume = Some(volume);
        self
    }

    /// These costs with a link from each device to its host's memory, each way; without one copies take no time. Where they
    /// have their measured times, it changes nothing.
    #[must_use]
    pub fn with_host_link(mut self, link: Option<Link>) -> Self {
        if let Transport::Links { host, .. } = &mut self.transport {
            *host = link;
        }
        self
    }

    /// The bytes of a token in a group of this strategy, which has so many passes.
    pub(crate) fn token_bytes(&self, strategy: Strategy, num_passes: f64) -> TokenBytes {
        match self.token_volume {
            Some(volume) => volume.token_bytes(strategy),
            None => TokenBytes::exchanging(self.exchange_bytes_per_token / num_passes),
        }
    }

    pub(crate) fn exchange_efficiency(&self) -> Option<ExchangeEfficiency> {
        match self.transport {
            Transport::Links {
                exchange_efficiency,
                ..
            } => exchange_efficiency,
            Transport::Measured => None,
        }
    }

    /// These costs with an optimiser that takes so long on a device of nominal speed.
    #[must_use]
    pub fn with_optimizer(mut self, optimizer: Seconds) -> Self {
        self.optimizer = optimizer;
        self
    }
}

/// Transfers that may overlap with computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Parameters are gathered one layer ahead of their use.
    pub prefetch: bool,
    /// A layer's gradients are on their way while the next layer's backward runs, rather than waited for.
    pub scatters: bool,
}

/// As the executor does: gathers are prefetched, scatters waited for.
impl Default for Overlap {
    fn default() -> Self {
        Overlap {
            prefetch: true,
            scatters: false,
        }
    }
}

fn check(
    name: &'static str,
    value: f64,
    is_in_range: bool,
    rule: &'static str,
) -> Result<(), SimError> {
    if value.is_finite() && is_in_range {
        Ok(())
    } else {
        Err(SimError::BadFigure { name, value, rule })
    }
}
