//! What is said of a profile that was measured.

use std::collections::BTreeMap;

use lengthwise_core::{Bytes, Seconds, Strategy, StrategyKind};
use lengthwise_cost::{FitReport, KindProfile, MeasuredGroup, MeasuredParts, PerDegree, Profile};

/// The coefficients, what time went into, and how good the fit is.
pub fn lines(profile: &Profile) -> Vec<String> {
    let mut lines = vec![format!(
        "overhead   {} a micro-batch, {} a step",
        seconds(profile.overhead.micro_batch_s),
        seconds(profile.overhead.step_s),
    )];
    let has_several = profile.costs.len() > 1;
    for of_kind in &profile.costs {
        lines.extend(has_several.then(|| of_kind.kind().to_string()));
        lines.extend(costs(of_kind));
        if has_several {
            lines.push(error_of(of_kind.kind(), profile));
        }
    }
    lines.extend(parts(profile));
    if let Some(fit) = &profile.fit {
        let held_out = match (fit.held_out_error, fit.held_out_worst_error) {
            (Some(mean), Some(worst)) => format!(
                "{:.1} % on micro-batches it has not seen, {:.1} % at worst",
                100.0 * mean,
                100.0 * worst
            ),
            _ => "nothing was held out".to_owned(),
        };
        lines.push(format!(
            "error      {:.1} % on what was fitted, {held_out}",
            100.0 * fit.fitted_error
        ));
        lines.extend(noise(fit));
        let (fitted, unseen): (Vec<_>, Vec<_>) =
            (profile.measurements.iter()).partition(|measured| !measured.held_out);
        lines.push(format!(
            "measured   {} micro-batches and {} unseen ones in {:.1} s",
            fitted.len(),
            unseen.len(),
            fit.measuring_s
        ));
    }
    lines
}

/// What sequences cost under one kind of strategy.
fn costs(costs: &KindProfile) -> Vec<String> {
    let mut lines = vec![format!(
        "compute    {} a token, and {} a thousand squares of tokens",
        seconds(costs.linear_s_per_token),
        seconds(1e3 * costs.quadratic_s_per_token2),
    )];
    for (place, table) in [
        ("in a node", &costs.one_node_bandwidth_bytes_per_s),
        ("across nodes", &costs.many_nodes_bandwidth_bytes_per_s),
    ] {
        lines.extend(exchanges(place, table, costs.exchanged_bytes_per_token));
    }
    let bytes =
        |figure: Option<f64>| Bytes::from_f64_ceil(figure.unwrap_or(0.0)).unwrap_or_default();
    lines.push(format!(
        "memory     {} seen for each token of a device, {} for each sequence; {} may be needed a token",
        bytes(costs.measured_bytes_per_local_token),
        bytes(costs.measured_bytes_per_sequence),
        bytes(Some(costs.memory_bytes_per_token)),
    ));
    lines
}

/// How far predictions are off from unseen micro-batches in which groups of a kind take part.
fn error_of(kind: StrategyKind, profile: &Profile) -> String {
    let is_of = |group: &MeasuredGroup| group.strategy.0.kind() == kind;
    let unseen = profile.measurements.iter().filter(|of| of.held_out);
    let errors = unseen.filter(|of| of.groups.iter().any(is_of));
    let errors: Vec<f64> = errors
        .map(|of| (of.predicted_s / of.measured_s - 1.0).abs())
        .collect();
    if errors.is_empty() {
        return "error      in no unseen micro-batch".to_owned();
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    format!(
        "error      {:.1} % on {} unseen micro-batches that it takes part in",
        100.0 * mean,
        errors.len()
    )
}

/// By how much runs of the same micro-batch differ, and whether that explains the error.
fn noise(fit: &FitReport) -> Vec<String> {
    let (Some(noise), Some(left)) = (fit.noise, fit.noise_without_drift) else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "noise      {:.1} % between runs of the same micro-batch, {:.1} % without the slow drift of the machine's speed",
        100.0 * noise,
        100.0 * left
    )];
    if fit.is_limited_by_noise() {
        lines.push(
            "           predictions are off by about as much as runs of the same micro-batch differ: a quieter machine would help".to_owned(),
        );
    }
    lines
}

fn exchanges(place: &str, table: &PerDegree, bytes_per_token: f64) -> Option<String> {
    let by_degree: Vec<String> = table
        .iter()
        .map(|(degree, bandwidth)| {
            let a_token = bytes_per_token / (bandwidth * f64::from(degree.get()));
            format!("{} at degree {degree}", seconds(a_token))
        })
        .collect();
    (!by_degree.is_empty())
        .then(|| format!("exchange   {place}, a token: {}", by_degree.join(", ")))
}

/// What the time of all measured micro-batches of a strategy went into.
fn parts(profile: &Profile) -> Vec<String> {
    let mut by_strategy: BTreeMap<Strategy, MeasuredParts> = BTreeMap::new();
    let equal = profile
        .measurements
        .iter()
        .filter(|measured| !measured.held_out);
    for measured in equal {
        if let Some(group) = measured.groups.first() {
            let sum = by_strategy.entry(group.strategy.0).or_default();
            sum.forward_s += measured.parts.forward_s;
            sum.backward_s += measured.parts.backward_s;
            sum.exchange_s += measured.parts.exchange_s;
            sum.ends_s += measured.parts.ends_s;
            sum.gather_s += measured.parts.gather_s;
            sum.scatter_s += measured.parts.scatter_s;
        }
    }
    let usual = profile.costs.first().map(|of| of.kind().activations);
    let line = |(strategy, parts): (Strategy, MeasuredParts)| {
        let name = strategy.short(usual.unwrap_or(strategy.activations()));
        let MeasuredParts {
            forward_s,
            backward_s,
            exchange_s,
            ends_s,
            gather_s,
            scatter_s,
        } = parts;
        let whole = forward_s + backward_s + ends_s + gather_s + scatter_s;
        let percent = |part: f64| 100.0 * part / whole.max(f64::MIN_POSITIVE);
        format!(
            "degree {name:<3} {:.0} % forward, {:.0} % backward, {:.0} % of both exchanges; {:.0} % embedding and loss, \
             {:.0} % gathers, {:.0} % scatters",
            percent(forward_s),
            percent(backward_s),
            100.0 * exchange_s / (forward_s + backward_s).max(f64::MIN_POSITIVE),
            percent(ends_s),
            percent(gather_s),
            percent(scatter_s),
        )
    };
    by_strategy.into_iter().map(line).collect()
}

/// Seconds in a unit that suits them.
fn seconds(seconds: f64) -> String {
    if seconds > 0.0 && seconds < 1e-6 {
        format!("{:.2} ns", seconds * 1e9)
    } else {
        Seconds::new(seconds).unwrap_or_default().to_string()
    }
}
