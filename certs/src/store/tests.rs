#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;

use super::*;
use crate::test_fixtures::{Folder, days, hub};

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Folder) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn keys_are_private_from_their_creation_even_in_place_of_others() {
    let folder = Folder::new();
    assert_eq!(mode(&folder.path().join("ca.key")), 0o600);
    // A key that somebody opened up is not what the new one inherits from.
    let lax = folder.write("hub.key", "lax");
    fs::set_permissions(&lax, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let files = folder.issue(&hub(), days(1));
    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(
        mode(&files.cert) & 0o022,
        0,
        "a certificate is not for others to write"
    );
    let prepared = folder.directory.prepare(&lax, "secret", KEY_MODE).unwrap();
    assert_eq!(mode(prepared.path()), 0o600);
}

#[test]
fn nothing_is_overwritten_when_either_file_exists() {
    for existing in ["hub.pem", "hub.key"] {
        let folder = Folder::new();
        folder.write(existing, "mine");
        let issued = folder.authority.issue(&hub(), days(1)).unwrap();
        let error = folder
            .directory
            .write(&hub(), &issued, Existing::Keep)
            .unwrap_err();
        assert!(
            matches!(&error, StoreError::Exists { path } if path.ends_with(existing)),
            "{error}"
        );
        assert!(error.to_string().contains("--force"));
        assert_eq!(fs::read_to_string(folder.path().join(existing)).unwrap(), "mine");
        assert_eq!(names(&folder), ["ca.key", "ca.pem", existing]);
    }
    let folder = Folder::new();
    let before = fs::read_to_string(folder.path().join("ca.key")).unwrap();
    assert!(
        folder
            .directory
            .write_authority(&folder.authority, Existing::Keep)
            .is_err()
    );
    assert_eq!(fs::read_to_string(folder.path().join("ca.key")).unwrap(), before);
}

#[cfg(unix)]
#[test]
fn a_dangling_link_counts_as_a_file() {
    for existing in ["hub.pem", "hub.key"] {
        let folder = Folder::new();
        std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join(existing)).unwrap();
        let issued = folder.authority.issue(&hub(), days(1)).unwrap();
        let error = folder
            .directory
            .write(&hub(), &issued, Existing::Keep)
            .unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        assert_eq!(names(&folder), ["ca.key", "ca.pem", existing]);
    }
}

#[test]
fn replacing_leaves_only_the_new_pair() {
    let folder = Folder::new();
    folder.write("hub.pem", "old");
    folder.write("hub.key", "old");
    let issued = folder.authority.issue(&hub(), days(1)).unwrap();
    let written = folder
        .directory
        .write(&hub(), &issued, Existing::Replace)
        .unwrap();
    assert_eq!(
        fs::read_to_string(written.certificate).unwrap(),
        issued.certificate_pem
    );
    assert_eq!(fs::read_to_string(written.key).unwrap(), issued.key_pem);
    assert_eq!(names(&folder), ["ca.key", "ca.pem", "hub.key", "hub.pem"]);
}

#[test]
fn the_folder_is_made_and_a_file_in_its_place_is_named() {
    let folder = Folder::new();
    let deeper = Directory::new(folder.path().join("a/b"));
    deeper.write_authority(&folder.authority, Existing::Keep).unwrap();
    assert_eq!(
        deeper.read_authority().unwrap().trust_domain(),
        folder.authority.trust_domain()
    );
    let file = folder.write("file", "");
    let error = Directory::new(&file)
        .write_authority(&folder.authority, Existing::Keep)
        .unwrap_err();
    assert!(matches!(error, StoreError::Folder { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
}
