use std::os::unix::fs::symlink;

use super::*;

/// A bundle whose `work` is a link to `to` below a directory, and that directory, which has a
/// content store.
fn bundle_of(to: &str) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let content = root.path().join("io.containerd.content.v1.content");
    std::fs::create_dir(&content).unwrap();
    symlink(root.path().join(to), root.path().join("work")).unwrap();
    (root, content)
}

#[test]
fn a_bundle_tells_where_the_content_store_is() {
    let (bundle, content) = bundle_of("io.containerd.runtime.v2.task/default/c1");
    assert_eq!(content_dir(bundle.path()), Some(content));
}

#[test]
fn a_link_to_somewhere_else_tells_nothing() {
    let (bundle, _content) = bundle_of("something/default/c1");
    assert_eq!(content_dir(bundle.path()), None);
    assert_eq!(content_dir("/nonexistent".as_ref()), None);
}
