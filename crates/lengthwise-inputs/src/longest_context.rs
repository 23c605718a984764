//! The longest sequence that a model can be trained on, on devices of a kind.

use lengthwise_core::limits::SEQ_LEN;
use lengthwise_core::{PlanRules, Tokens};
use lengthwise_plan::Setting;

use crate::{CostChanges, CostSource, Costs, InputError};

impl CostSource {
    /// The longest sequence that has room on all devices together, of which no other is in flight; `None` where the model
    /// leaves no room for a token.
    ///
    /// The context of `changes` is not used: a model with a table of positions has one for each token of the answer.
    ///
    /// ```
    /// use lengthwise_core::Tokens;
    /// use lengthwise_inputs::{CostChanges, CostSource};
    ///
    /// let changes = CostChanges::default();
    /// let source = CostSource::described("h100-8x8", "llama-3-8b")?;
    /// assert!(source.longest_context(changes)? > Some(Tokens(500_000)));
    /// let large = CostSource::described("h100-1x8", "llama-3-70b")?;
    /// assert_eq!(large.longest_context(changes)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`CostSource::costs`].
    pub fn longest_context(&self, changes: CostChanges) -> Result<Option<Tokens>, InputError> {
        let held = |context: u64| {
            let context = Some(Tokens(context));
            let costs = self.costs(CostChanges { context, ..changes }, None)?;
            Ok::<u64, InputError>(most_tokens(&costs))
        };
        // Memory that the model takes does not fall with the context, so no sequence is longer than under the shortest one.
        let most = held(1)?.min(SEQ_LEN.most);
        if most == 0 {
            return Ok(None);
        }
        if held(most)? >= most {
            return Ok(Some(Tokens(most)));
        }
        let (mut fits, mut too_long) = (0, most);
        while too_long - fits > 1 {
            let between = fits + (too_long - fits) / 2;
            if held(between)? >= between {
                fits = between;
            } else {
                too_long = between;
            }
        }
        Ok((fits > 0).then_some(Tokens(fits)))
    }
}

/// The tokens that a group of some degree can hold at most.
fn most_tokens(costs: &Costs) -> u64 {
    let setting = Setting {
        cluster: &costs.cluster,
        cost: &costs.model,
        space: &costs.space,
        rules: PlanRules::default(),
    };
    let budgets = setting
        .degrees()
        .filter_map(|degree| setting.token_budget(degree).ok());
    let tokens = budgets.map(|budget| budget.tokens_per_group.0);
    tokens.max().unwrap_or(0)
}
