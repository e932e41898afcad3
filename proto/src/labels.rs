//! Labels: what an agent says of itself beside its id, and what picks agents by it.

use std::fmt;
use std::str::FromStr;

/// The longest key of a label, in bytes.
pub const MAX_KEY: usize = 63;

/// The longest value of a label, in bytes.
pub const MAX_VALUE: usize = 63;

/// Labels of one agent, or of one [`Selector`].
pub const MAX_LABELS: usize = 32;

/// Characters of a refused text that an error repeats: it may come from a peer and be of any length.
const EXCERPT: usize = 100;

/// One label, `region=eu`: a key of letters, digits, `-`, `_`, `.` and `/`, and a value of the same, which may be
/// empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    text: Box<str>,
    key: usize,
}

/// All labels of an agent, in order: no two of the same key.
///
/// One block of memory, because routing looks through those of several agents for each call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<Label>);

/// Labels that an agent must have, all of them: `region=eu,tier=edge`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Labels);

/// A text is no label, or no list of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// There is no `=`.
    #[error("{0:?} is no label: write KEY=VALUE, such as region=eu")]
    NoValue(String),
    /// The key breaks the rule.
    #[error(
        "{0:?} is no label: its key has to be 1 to {MAX_KEY} of the characters a-z, A-Z, 0-9, '-', '_', '.' and '/'"
    )]
    Key(String),
    /// The value breaks the rule.
    #[error(
        "{0:?} is no label: its value has to be at most {MAX_VALUE} of the characters a-z, A-Z, 0-9, '-', '_', '.' and '/'"
    )]
    Value(String),
    /// A key has two values.
    #[error("the label {0:?} is given twice: a key has one value")]
    Twice(String),
    /// There are more than [`MAX_LABELS`].
    #[error("{0} labels, and {MAX_LABELS} are the limit")]
    TooMany(usize),
    /// There is no label at all.
    #[error("no label: write KEY=VALUE, several with commas between them, as in region=eu,tier=edge")]
    Empty,
}

impl Label {
    /// A label of these parts.
    ///
    /// # Errors
    ///
    /// One of them breaks the rule.
    pub fn new(key: &str, value: &str) -> Result<Self, InvalidLabel> {
        Self::checked(format!("{key}={value}").into(), key.len())
    }

    /// A text whose `=` is after `key` bytes.
    fn checked(text: Box<str>, key: usize) -> Result<Self, InvalidLabel> {
        let label = Self { text, key };
        if key == 0 || key > MAX_KEY || !label.key().bytes().all(is_allowed) {
            return Err(InvalidLabel::Key(excerpt(&label.text)));
        }
        let value = label.value();
        if value.len() > MAX_VALUE || !value.bytes().all(is_allowed) {
            return Err(InvalidLabel::Value(excerpt(&label.text)));
        }
        Ok(label)
    }

    /// What it is a label of.
    pub fn key(&self) -> &str {
        &self.text[..self.key]
    }

    /// What it says.
    pub fn value(&self) -> &str {
        &self.text[self.key + 1..]
    }
}

impl Labels {
    /// Checks each, and that there are at most [`MAX_LABELS`] and no two of one key.
    ///
    /// # Errors
    ///
    /// They break a rule.
    pub fn new(labels: impl IntoIterator<Item = Label>) -> Result<Self, InvalidLabel> {
        Self::sorted(labels.into_iter().collect())
    }

    fn sorted(mut labels: Vec<Label>) -> Result<Self, InvalidLabel> {
        if labels.len() > MAX_LABELS {
            return Err(InvalidLabel::TooMany(labels.len()));
        }
        labels.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        match labels.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            Some(pair) => Err(InvalidLabel::Twice(pair[0].key().to_owned())),
            None => Ok(Self(labels)),
        }
    }

    /// Whether this very label is among them.
    pub fn has(&self, label: &Label) -> bool {
        self.0.contains(label)
    }

    /// In order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Label> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As messages carry them.
    pub fn to_map<M: FromIterator<(String, String)>>(&self) -> M {
        self.iter()
            .map(|label| (label.key().to_owned(), label.value().to_owned()))
            .collect()
    }

    /// From what a message carries.
    ///
    /// # Errors
    ///
    /// They break a rule.
    pub fn from_map<'a>(
        map: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, InvalidLabel> {
        if map.len() > MAX_LABELS {
            return Err(InvalidLabel::TooMany(map.len()));
        }
        let labels: Result<_, _> = map.map(|(key, value)| Label::new(key, value)).collect();
        Self::sorted(labels?)
    }
}

impl Selector {
    /// The labels that an agent must have: one at least.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &Label> {
        self.0.iter()
    }

    /// Whether an agent with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.labels().all(|label| labels.has(label))
    }
}

impl FromStr for Label {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        match text.find('=') {
            Some(key) => Self::checked(text.into(), key),
            None => Err(InvalidLabel::NoValue(excerpt(text))),
        }
    }
}

impl FromStr for Selector {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        if text.trim().is_empty() {
            return Err(InvalidLabel::Empty);
        }
        let count = text.split(',').count();
        if count > MAX_LABELS {
            return Err(InvalidLabel::TooMany(count));
        }
        let mut labels = Vec::with_capacity(count);
        for label in text.split(',') {
            labels.push(label.trim().parse()?);
        }
        Labels::sorted(labels).map(Self)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, label) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            label.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_is_a_key_and_a_value() {
        let label: Label = "example.com/region=eu-1".parse().unwrap();
        assert_eq!((label.key(), label.value()), ("example.com/region", "eu-1"));
        assert_eq!("a=".parse::<Label>().unwrap().value(), "");
        let long = "x".repeat(MAX_KEY + 1);
        for (text, rule) in [
            ("region", "KEY=VALUE"),
            ("", "KEY=VALUE"),
            ("=eu", "its key"),
            ("a b=c", "its key"),
            ("ä=c", "its key"),
            (&format!("{long}=c"), "its key"),
            ("a=b=c", "its value"),
            ("a=b c", "its value"),
            (&format!("a={long}"), "its value"),
        ] {
            let message = text.parse::<Label>().unwrap_err().to_string();
            assert!(
                message.contains(rule) && message.contains(text),
                "{text:?}: {message}"
            );
        }
    }

    #[test]
    fn a_selector_wants_all_of_its_labels() {
        let labels = Labels::new(["region=eu", "tier=edge"].map(|label| label.parse().unwrap())).unwrap();
        for (selector, matches) in [
            ("region=eu", true),
            ("tier=edge,region=eu", true),
            ("region=eu, tier=edge", true),
            ("region=us", false),
            ("region=eu,tier=core", false),
            ("zone=1", false),
            ("region=", false),
        ] {
            let selector: Selector = selector.parse().unwrap();
            assert_eq!(selector.matches(&labels), matches, "{selector}");
        }
        assert_eq!("".parse::<Selector>(), Err(InvalidLabel::Empty));
        assert!(matches!(
            "a=1,".parse::<Selector>(),
            Err(InvalidLabel::NoValue(_))
        ));
        assert!(matches!(
            "a=1,a=2".parse::<Selector>(),
            Err(InvalidLabel::Twice(_))
        ));
        let many = vec!["a=1"; MAX_LABELS + 1].join(",");
        assert_eq!(
            many.parse::<Selector>(),
            Err(InvalidLabel::TooMany(MAX_LABELS + 1))
        );
    }

    #[test]
    fn labels_of_a_peer_are_checked() {
        let map = HashMap::from([("a b".to_owned(), String::new())]);
        assert!(matches!(Labels::from_map(map.iter()), Err(InvalidLabel::Key(_))));
        let many: HashMap<_, _> = (0..=MAX_LABELS)
            .map(|i| (format!("k{i}"), String::new()))
            .collect();
        assert_eq!(
            Labels::from_map(many.iter()),
            Err(InvalidLabel::TooMany(MAX_LABELS + 1))
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,200}") {
            let _ = text.parse::<Label>();
            let _ = text.parse::<Selector>();
        }

        #[test]
        fn labels_survive_the_wire(map in prop::collection::hash_map("[a-z./_-]{1,63}", "[A-Z0-9]{0,63}", 0..20)) {
            let labels = Labels::from_map(map.iter()).unwrap();
            prop_assert_eq!(labels.to_map::<HashMap<_, _>>(), map);
            if !labels.is_empty() {
                let selector: Selector = labels.to_string().parse().unwrap();
                prop_assert!(selector.matches(&labels));
            }
        }
    }
}
