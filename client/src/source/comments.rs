//! Comments of a file's source, by what they are for.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

/// The comments of a file.
pub(super) struct Comments(HashMap<Vec<i32>, Said>);

/// The comments of one thing, a line each.
#[derive(Clone, Default)]
pub(super) struct Said {
    pub(super) before: Vec<String>,
    pub(super) behind: Vec<String>,
}

impl Comments {
    pub(super) fn of(file: &FileDescriptor) -> Self {
        let info = file.file_descriptor_proto().source_code_info.as_ref();
        let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
        let said = locations.iter().filter_map(|location| {
            let said = Said {
                before: lines(location.leading_comments()),
                behind: lines(location.trailing_comments()),
            };
            let says = !said.before.is_empty() || !said.behind.is_empty();
            says.then(|| (location.path.clone(), said))
        });
        Self(said.collect())
    }

    /// True if anything is said of what is at this path.
    pub(super) fn has(&self, path: &[i32]) -> bool {
        self.0.contains_key(path)
    }

    /// What is said of what is at this path, as `descriptor.proto` counts.
    pub(super) fn at(&self, path: &[i32]) -> Said {
        self.0.get(path).cloned().unwrap_or_default()
    }
}

fn lines(comment: &str) -> Vec<String> {
    let line = |line: &str| format!("//{}", line.replace('\t', "    ").trim_end());
    comment.trim_end().lines().map(line).collect()
}
