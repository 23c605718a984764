//! Suggestions for misspelt names.

/// The known name that is most like the written one, or all of them after `otherwise`.
pub fn suggestion(written: &str, known: &[&str], otherwise: &str) -> String {
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(written, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, nearest)) if likeness > 0.8 && !shares_only_section(written, nearest) => {
            format!("did you mean {nearest}?")
        }
        _ => format!("{otherwise} {}", known.join(", ")),
    }
}

/// Whether two keys are alike only because they begin with the same section.
fn shares_only_section(a: &str, b: &str) -> bool {
    match (a.split_once('.'), b.split_once('.')) {
        (Some((_, a)), Some((_, b))) => strsim::jaro_winkler(a, b) < 0.75,
        _ => false,
    }
}
