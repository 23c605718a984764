//! Text from files, made harmless where it stands in a page.

/// Text that means itself between tags and in quoted attributes.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // The only characters that are errors in any document.
            '\0' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// JSON that can't end the script element it stands in: what could is written as an escape of JSON strings, and
/// outside of strings none of these characters occurs.
pub(super) fn json_in_script(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hostile() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("</script>".to_owned()),
            Just("<!--".to_owned()),
            Just("<script>".to_owned()),
            Just("\"'`\\&amp;".to_owned()),
            Just("\u{2028}\u{2029}\0".to_owned()),
            any::<String>(),
        ];
        proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn json_in_a_script_is_the_same_json_without_a_tag(text in hostile()) {
            let json = serde_json::to_string(&text).unwrap();
            let escaped = json_in_script(&json);
            let is_harmless = !escaped.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(is_harmless);
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }

        #[test]
        fn html_has_no_tag_and_no_quote_left(text in hostile()) {
            let escaped = html(&text);
            let is_harmless = !escaped.contains(['<', '>', '"', '\'', '\0']);
            prop_assert!(is_harmless);
            let back = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
            let back = back.replace("&#39;", "'").replace("&amp;", "&");
            prop_assert_eq!(back, text.replace('\0', "\u{fffd}"));
        }
    }
}
