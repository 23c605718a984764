//! From measured times to coefficients.

use std::collections::BTreeMap;

use lengthwise_core::Degree;
use lengthwise_cost::{Span, head_imbalance};

/// A measured run: one sequence in each of a few equal groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Ranks of a group.
    pub degree: Degree,
    /// Where they are.
    pub span: Span,
    /// Tokens of its sequence.
    pub seq_len: f64,
    /// What it took, without the overhead of the micro-batch; above 0.
    pub seconds: f64,
}

/// `seconds = (linear s + quadratic s^2 imbalance(d)) / d + exchange(d) s`, for sequences of `s` tokens at degree `d`,
/// whose exchange depends on whether the group crosses nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coefficients {
    /// Seconds for each token on one device.
    pub linear: f64,
    /// Seconds for each square of tokens on one device.
    pub quadratic: f64,
    /// Seconds for each token of a sequence, by degree above 1 and place.
    pub exchange: Exchange,
}

/// Seconds for each token of a sequence.
pub type Exchange = BTreeMap<(Degree, Span), f64>;

/// Rounds of fitting compute and exchange in turn; each is linear given the other, and few suffice.
const ROUNDS: usize = 20;

/// Smallest share of a token's time that exchange is taken for. Never zero, so that of two plans that seem equal
/// the one that exchanges less is chosen.
const LEAST_EXCHANGE: f64 = 1e-3;

/// The coefficients, none negative, with small squared relative errors of all observations.
pub fn fit(observations: &[Observation], num_heads: u32) -> Coefficients {
    let mut fitted = Coefficients::default();
    for _ in 0..ROUNDS {
        (fitted.linear, fitted.quadratic) = fit_compute(observations, num_heads, &fitted.exchange);
        for group in observations
            .iter()
            .map(|observed| (observed.degree, observed.span))
            .filter(|&(degree, _)| degree > Degree::ONE)
        {
            let seconds = fit_exchange(observations, num_heads, &fitted, group);
            fitted.exchange.insert(group, seconds);
        }
    }
    fitted
}

/// Linear and quadratic coefficient by least squares of relative errors, given the exchange.
fn fit_compute(observations: &[Observation], num_heads: u32, exchange: &Exchange) -> (f64, f64) {
    // Relative to what was measured, every run should give z = x linear + y quadratic.
    let [xx, xy, yy, xz, yz] =
        observations
            .iter()
            .fold([0.0; 5], |[xx, xy, yy, xz, yz], observed| {
                let Observation {
                    degree,
                    span,
                    seq_len,
                    seconds,
                } = *observed;
                let share = 1.0 / (f64::from(degree.get()) * seconds);
                let x = seq_len * share;
                let y = seq_len * seq_len * head_imbalance(num_heads, degree) * share;
                let z = 1.0
                    - exchange
                        .get(&(degree, span))
                        .map_or(0.0, |exchange| exchange * seq_len / seconds);
                [xx + x * x, xy + x * y, yy + y * y, xz + x * z, yz + y * z]
            });
    let determinant = xx * yy - xy * xy;
    let linear_alone = ((xz / xx).max(0.0), 0.0);
    let quadratic_alone = (0.0, (yz / yy).max(0.0));
    // Runs of a single length tell nothing of the square.
    if determinant <= 1e-12 * xx * yy {
        return linear_alone;
    }
    match (
        (xz * yy - yz * xy) / determinant,
        (yz * xx - xz * xy) / determinant,
    ) {
        (_, quadratic) if quadratic < 0.0 => linear_alone,
        (linear, _) if linear < 0.0 => quadratic_alone,
        both => both,
    }
}

/// Exchange of one degree and place by least squares of relative errors, given linear and quadratic.
fn fit_exchange(
    observations: &[Observation],
    num_heads: u32,
    fitted: &Coefficients,
    (degree, span): (Degree, Span),
) -> f64 {
    let ranks = f64::from(degree.get());
    let of_group = observations
        .iter()
        .filter(|observed| (observed.degree, observed.span) == (degree, span));
    let (xx, xz) = of_group.fold(
        (0.0, 0.0),
        |(xx, xz),
         &Observation {
             seq_len, seconds, ..
         }| {
            let quadratic = fitted.quadratic * head_imbalance(num_heads, degree) * seq_len;
            let compute = (fitted.linear + quadratic) * seq_len / ranks;
            let x = seq_len / seconds;
            (xx + x * x, xz + x * (1.0 - compute / seconds))
        },
    );
    (xz / xx).max(LEAST_EXCHANGE * fitted.linear / ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    /// More than 4 ranks are on several nodes.
    fn span(ranks: u32) -> Span {
        match ranks {
            ..=4 => Span::OneNode,
            _ => Span::ManyNodes,
        }
    }

    fn observations(linear: f64, quadratic: f64, exchange: f64) -> Vec<Observation> {
        let runs = [
            (1, 128.0),
            (1, 512.0),
            (2, 256.0),
            (3, 400.0),
            (8, 1024.0),
            (8, 4096.0),
            (8, 16384.0),
        ];
        let observed = runs.map(|(ranks, seq_len): (u32, f64)| {
            let quadratic = quadratic * seq_len * head_imbalance(8, degree(ranks));
            let exchange = if ranks == 1 {
                0.0
            } else {
                exchange / f64::from(ranks)
            };
            let seconds = (linear + quadratic) * seq_len / f64::from(ranks) + exchange * seq_len;
            Observation {
                degree: degree(ranks),
                span: span(ranks),
                seq_len,
                seconds,
            }
        });
        observed.to_vec()
    }

    #[test]
    fn runs_that_follow_the_formula_give_back_its_coefficients() {
        let fitted = fit(&observations(1e-4, 2e-8, 2e-5), 8);
        assert!((fitted.linear / 1e-4 - 1.0).abs() < 1e-3, "{fitted:?}");
        assert!((fitted.quadratic / 2e-8 - 1.0).abs() < 1e-3, "{fitted:?}");
        for ((degree, span), exchange) in fitted.exchange {
            assert!(
                (exchange * f64::from(degree.get()) / 2e-5 - 1.0).abs() < 1e-2,
                "{degree} {span:?}: {exchange}"
            );
        }
    }

    #[test]
    fn a_degree_has_one_exchange_inside_a_node_and_one_across_nodes() {
        let mut runs = observations(1e-4, 0.0, 2e-5);
        let inside = runs[2];
        assert_eq!(inside.degree, degree(2));
        runs.push(Observation {
            span: Span::ManyNodes,
            seconds: inside.seconds + 3e-5 * inside.seq_len,
            ..inside
        });
        let exchange = fit(&runs, 8).exchange;
        let across =
            exchange[&(degree(2), Span::ManyNodes)] - exchange[&(degree(2), Span::OneNode)];
        assert!((across / 3e-5 - 1.0).abs() < 1e-2, "{exchange:?}");
    }

    #[test]
    fn noise_of_a_tenth_moves_coefficients_by_little_more() {
        let mut noisy = observations(1e-4, 2e-8, 1e-5);
        for (observed, factor) in noisy.iter_mut().zip([1.1, 0.9, 1.05, 0.95, 1.1, 0.9, 1.0]) {
            observed.seconds *= factor;
        }
        let fitted = fit(&noisy, 8);
        assert!((fitted.linear / 1e-4 - 1.0).abs() < 0.25, "{fitted:?}");
        assert!((fitted.quadratic / 2e-8 - 1.0).abs() < 0.25, "{fitted:?}");
    }

    #[test]
    fn no_coefficient_is_ever_negative() {
        let run = |ranks, seq_len, seconds| Observation {
            degree: degree(ranks),
            span: span(ranks),
            seq_len,
            seconds,
        };
        let cheaper_when_longer = fit(&[run(1, 10.0, 1.0), run(1, 100.0, 5.0)], 8);
        assert_eq!(cheaper_when_longer.quadratic, 0.0);
        let faster_than_one_device = fit(&[run(1, 10.0, 1.0), run(2, 20.0, 0.1)], 8);
        assert!(faster_than_one_device.exchange[&(degree(2), Span::OneNode)] > 0.0);
        let steeper_than_square = fit(&[run(1, 10.0, 1e-3), run(1, 100.0, 5.0)], 8);
        assert_eq!(steeper_than_square.linear, 0.0);
        let single = fit(&[run(1, 10.0, 1.0)], 8);
        assert!(
            (single.linear - 0.1).abs() < 1e-9 && single.quadratic == 0.0,
            "{single:?}"
        );
    }
}
