//! The commands that would make things right, for error messages.

use std::path::Path;

use crate::credentials::Role;
use crate::pem_file::FileKind;

/// What to do about a file that is not there.
pub(crate) fn missing(path: &Path, kind: FileKind) -> String {
    match kind {
        FileKind::Ca => format!(
            "make a CA with: adit certs init{}, or copy the hub's ca.pem here",
            dir_of(path)
        ),
        FileKind::Certificate | FileKind::PrivateKey => match subject_of(path) {
            Some(subject) => format!(
                "make it, where the CA is, with: adit certs {subject}{}",
                dir_of(path)
            ),
            None => "name an existing file".to_owned(),
        },
    }
}

/// How to replace the certificate at `path`, which `role` would use.
pub(crate) fn instead_of(path: &Path, role: Role) -> String {
    let subject = subject_of(path)
        .filter(|subject| subject.starts_with(role.subcommand()))
        .unwrap_or_else(|| role.arguments().to_owned());
    format!(
        "issue a new one, where the CA is, with: adit certs {subject}{} --force",
        dir_of(path)
    )
}

/// The arguments that issued the certificate or key at `path`, if it has one of the names that we
/// give.
fn subject_of(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let named = |prefix| stem.strip_prefix(prefix).filter(|name| !name.is_empty());
    if stem == "hub" {
        Some(Role::Hub.arguments().to_owned())
    } else if let Some(id) = named("agent-") {
        Some(format!("agent {id}"))
    } else if let Some(name) = named("client-") {
        Some(format!("client {name}"))
    } else {
        named("server-").map(|name| format!("server {name} --san HOST"))
    }
}

/// The flag that names the folder of `path`.
pub(crate) fn dir_of(path: &Path) -> String {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => format!(" --dir {}", dir.display()),
        _ => " --dir .".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_follows_from_the_file() {
        let of = |path: &str, role| instead_of(Path::new(path), role);
        let prefix = "issue a new one, where the CA is, with: adit certs";
        assert_eq!(
            of("/etc/adit/agent-site-7.pem", Role::Agent),
            format!("{prefix} agent site-7 --dir /etc/adit --force")
        );
        assert_eq!(
            of("hub.pem", Role::Hub),
            format!("{prefix} hub --san HOST --dir . --force")
        );
        assert_eq!(
            of("c/server-orders.pem", Role::Server),
            format!("{prefix} server orders --san HOST --dir c --force")
        );
        // A name that is not ours, or another role's, says nothing about the subject.
        assert_eq!(
            of("c/tls.crt", Role::Client),
            format!("{prefix} client NAME --dir c --force")
        );
        assert_eq!(
            of("c/hub.pem", Role::Agent),
            format!("{prefix} agent ID --dir c --force")
        );
    }
}
