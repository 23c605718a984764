//! The time of moving the inputs of layers to host memory and back.

use crate::CostError;
use crate::fitted_costs::check_coefficient;

/// The time of moving the inputs of layers to host memory and back, beyond the computing that it hides behind.
///
/// The input of a layer goes out while the forward of the next layer computes, and comes back while the backward of the
/// layer before computes, its recomputation included. A layer takes the longer of both; with layers that are alike, a pass
/// over all of them does. For a group of degree `d` and a sequence of `s` tokens that takes `T` with recomputation:
///
/// ```text
/// time = max(f T, c s / d) + max((1 - f) T, c s / d)        f: forward_share, c: copy_s_per_token
/// host = h s / d                                            h: bytes_per_token
/// ```
///
/// It is at least `T`, and does not fall with the length where `T` does not. Copies share a device's link with nothing else
/// here; what gathers and exchanges also send over it is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostCosts {
    /// The part of the time that is the first forward; the rest is recomputation and backward.
    pub forward_share: f64,
    /// Seconds that copying takes in one direction, over all layers, for each token that a device holds.
    pub copy_s_per_token: f64,
    /// Bytes of host memory, over all layers, for each token that a device holds.
    pub bytes_per_token: f64,
}

impl HostCosts {
    pub(crate) fn check(&self) -> Result<(), CostError> {
        check_coefficient("host.forward_share", self.forward_share)?;
        check_coefficient("1 - host.forward_share", 1.0 - self.forward_share)?;
        check_coefficient("host.copy_s_per_token", self.copy_s_per_token)?;
        check_coefficient("host.bytes_per_token", self.bytes_per_token)
    }

    /// The time where everything but copying takes `seconds` and each device holds `tokens`.
    ///
    /// Written so that it does not fall with either, not even by rounding: planners rest on that.
    pub(crate) fn seconds(&self, seconds: f64, tokens: f64) -> f64 {
        let copy = self.copy_s_per_token * tokens;
        let pass = |share: f64| (share * seconds).max(copy);
        pass(self.forward_share) + pass(1.0 - self.forward_share)
    }

    /// The same as a part of that time and seconds that copies add, as long as the same passes are bound by copies.
    pub(crate) fn linear_s(&self, seconds: f64, tokens: f64) -> (f64, f64) {
        let copy = self.copy_s_per_token * tokens;
        let pass = |share: f64| {
            if share * seconds < copy {
                (0.0, copy)
            } else {
                (share, 0.0)
            }
        };
        let (forward, backward) = (pass(self.forward_share), pass(1.0 - self.forward_share));
        (forward.0 + backward.0, forward.1 + backward.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_hide_behind_each_pass_as_far_as_it_goes() {
        let costs = HostCosts {
            forward_share: 0.25,
            copy_s_per_token: 2.0,
            bytes_per_token: 1.0,
        };
        for tokens in [0.5, 2.0, 4.0] {
            let (share, copies) = costs.linear_s(8.0, tokens);
            assert_eq!(share * 8.0 + copies, costs.seconds(8.0, tokens));
        }
        assert_eq!(costs.seconds(8.0, 0.5), 8.0);
        assert_eq!(costs.seconds(8.0, 2.0), 4.0 + 6.0);
        assert_eq!(costs.seconds(8.0, 4.0), 8.0 + 8.0);
        let more_than_all = HostCosts {
            forward_share: 1.5,
            ..costs
        };
        assert_eq!(
            more_than_all.check().unwrap_err().to_string(),
            "1 - host.forward_share is -0.5; it must be finite and not negative"
        );
    }
}
