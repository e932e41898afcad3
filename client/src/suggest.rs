//! "Did you mean": the known name that is most like one that is not known.

/// How like a name another must be to be meant by it, between 0 and 1.
const ALIKE: f64 = 0.8;
/// How many names of what there is an error lists.
const NAMES_LISTED: usize = 20;

/// The known name that may have been meant.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (likeness(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

fn likeness(wanted: &str, name: &str) -> f64 {
    // Of two names in one package, the package says nothing.
    match (wanted.rsplit_once('.'), name.rsplit_once('.')) {
        (Some((package, wanted)), Some((other, name))) if package == other => {
            strsim::jaro_winkler(wanted, name)
        }
        _ => strsim::jaro_winkler(wanted, name),
    }
}

/// What is said of a name that `owner` does not have, with the names of that kind that it has.
pub(crate) fn unknown(owner: &str, kind: &str, wanted: &str, known: &[&str]) -> String {
    let hint = match (nearest(wanted, known.iter().copied()), known.len()) {
        (Some(nearest), _) => format!("did you mean '{nearest}'?"),
        (None, 0) => format!("it has no {kind}s"),
        (None, all) if all > NAMES_LISTED => format!(
            "it has {all} {kind}s, among them {}",
            known.get(..NAMES_LISTED).unwrap_or_default().join(", ")
        ),
        (None, _) => format!("it has {}", known.join(", ")),
    };
    format!("{owner} has no {kind} '{wanted}'; {hint}")
}

#[cfg(test)]
mod tests {
    use super::{nearest, unknown};

    #[test]
    fn a_slip_of_the_hand_is_understood_and_nothing_more() {
        assert_eq!(nearest("lable", ["inner", "label"]), Some("label"));
        assert_eq!(
            nearest("GetFeture", ["ListFeatures", "GetFeature"]),
            Some("GetFeature")
        );
        assert_eq!(nearest("colour", ["name", "count", "jar", "everything"]), None);
        assert_eq!(nearest("kitchen.Pantry", ["kitchen.Kitchen"]), None);
        assert_eq!(
            nearest("kitchn.Kitchen", ["kitchen.Kitchen"]),
            Some("kitchen.Kitchen")
        );
        assert_eq!(
            unknown("p.M", "field", "x", &["a", "b"]),
            "p.M has no field 'x'; it has a, b"
        );
        assert_eq!(
            unknown("p.M", "field", "x", &[]),
            "p.M has no field 'x'; it has no fields"
        );
    }
}
