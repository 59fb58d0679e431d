//! The documents lead to files that exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Targets of Markdown links that are paths, relative to the document's own directory.
fn links(document: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(document).expect("the document can be read");
    let directory = document.parent().expect("a document lies in a directory");
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.starts_with("http") && !target.starts_with('#'))
        .map(|target| directory.join(target.split('#').next().unwrap_or(target)))
        .collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let documents = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/ARCHITECTURE.md",
        "docs/OPERATIONS.md",
        "docs/PROTOCOL.md",
    ];
    for document in documents {
        let missing: Vec<PathBuf> = links(&root().join(document))
            .into_iter()
            .filter(|path| !path.exists())
            .collect();
        assert!(missing.is_empty(), "{document} leads to {missing:?}");
    }
}

#[test]
fn a_put_can_be_followed_through_every_package_on_its_way() {
    let links = links(&root().join("docs/ARCHITECTURE.md"));
    for package in ["bin", "engine", "net", "statemachine", "wal"] {
        let directory = root().join("docs/..").join(package);
        let is_named = links.iter().any(|link| link.starts_with(&directory));
        assert!(is_named, "no step leads through {package}");
    }
}
