//! A tree goes into the store, and every change of it afterwards is found.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Store, TestDirectory};
use crate::store::{Answer, ask, start, word};

/// More entries than fit one batch, or one question.
const FILES: usize = 600;

/// A tree with one of everything.
fn plant(directory: &Path) -> PathBuf {
    let tree = directory.join("tree");
    fs::create_dir_all(tree.join("a/b/c")).expect("creates");
    fs::create_dir(tree.join("many")).expect("creates");
    fs::create_dir(tree.join("a.b")).expect("creates");
    for file in 0..FILES {
        fs::write(tree.join(format!("many/{file}")), "x".repeat(file % 7)).expect("writes");
    }
    fs::write(tree.join("a/b/file"), "hello").expect("writes");
    fs::write(tree.join("a/b").join(word(b"\xff\n")), "odd").expect("writes");
    fs::write(tree.join("a.b/file"), "beside").expect("writes");
    symlink("b/no where", tree.join("a/link")).expect("links");
    let fifo = Command::new("mkfifo").arg(tree.join("a/fifo")).status();
    assert!(fifo.expect("every system has it").success());
    tree
}

/// Everything in [`plant`] but the files of `many`: directories, files, the link, the pipe.
const OTHERS: usize = 6 + 3 + 1 + 1;

fn import(server: &Store, tree: &Path, words: &[&str]) -> Answer {
    let tree = tree.to_str().expect("text");
    ask(server, ["import-tree", tree].iter().chain(words))
}

fn key(tree: &Path, below: &str) -> String {
    format!("{}/{below}", tree.to_str().expect("text"))
}

#[test]
fn a_tree_is_stored_as_it_is() {
    let directory = TestDirectory::new("import-store");
    let server = start(&directory.path().join("data"));
    let tree = plant(directory.path());
    let imported = import(&server, &tree, &[]);
    let entries = format!("{} entries, ", FILES + OTHERS);
    assert!(imported.last_line(0).starts_with(&entries), "{imported:?}");
    assert!(
        imported.last_line(0).ends_with(" entries/s"),
        "{imported:?}"
    );

    let file = ask(&server, ["get", &key(&tree, "a/b/file")]);
    let file = file.last_line(0);
    assert!(file.starts_with("type=file mode=0"), "{file}");
    assert!(file.contains(" size=5 mtime=1"), "{file}");
    let link = ask(&server, ["get", &key(&tree, "a/link")]);
    assert!(link.last_line(0).starts_with("type=symlink "), "{link:?}");
    assert!(
        link.last_line(0).ends_with(" target=b/no where"),
        "{link:?}"
    );
    let fifo = ask(&server, ["get", &key(&tree, "a/fifo")]);
    assert!(fifo.last_line(0).starts_with("type=fifo "), "{fifo:?}");
    let top = ask(&server, ["get", tree.to_str().expect("text")]);
    assert!(top.last_line(0).starts_with("type=directory "), "{top:?}");

    let children = ask(
        &server,
        ["list", &key(&tree, ""), "--children", "--keys-only"],
    );
    let expected = ["a", "a.b", "many"]
        .map(|name| key(&tree, name) + "\n")
        .concat();
    assert_eq!(children.expect(0), expected);
    let children = ask(
        &server,
        ["list", &key(&tree, "a/b/"), "--children", "--keys-only"],
    );
    let expected = ["c", "file", "\\xff\\n"]
        .map(|name| key(&tree, "a/b/") + name + "\n")
        .concat();
    assert_eq!(children.expect(0), expected);

    let same = import(&server, &tree, &["--verify-only"]);
    assert_eq!(same.last_line(0), "0 differences");
    assert!(same.expect(0).contains(&entries), "{same:?}");
    let document = import(&server, &tree, &["--verify-only", "--json"])
        .json(0)
        .remove(0);
    assert_eq!(
        (&document["differences"], &document["directories"]),
        (&0.into(), &6.into())
    );
}

#[test]
fn every_difference_is_named() {
    let directory = TestDirectory::new("import-differences");
    let server = start(&directory.path().join("data"));
    let tree = plant(directory.path());
    import(&server, &tree, &[]).expect(0);
    fs::write(tree.join("a/b/file"), "longer than before").expect("writes");
    fs::remove_file(tree.join("many/17")).expect("removes");
    fs::write(tree.join("many/new"), "").expect("writes");
    fs::set_permissions(tree.join("a.b/file"), fs::Permissions::from_mode(0o640)).expect("sets");
    fs::remove_file(tree.join("a/link")).expect("removes");
    symlink("elsewhere", tree.join("a/link")).expect("links");
    // One that is listed in a directory, and one of which no directory knows.
    ask(&server, ["put", &key(&tree, "a/b/stray"), "not attributes"]).expect(0);
    ask(&server, ["put", &key(&tree, "no/such/place"), "1"]).expect(0);
    ask(&server, ["put", &key(&tree, "a/fifo"), "not attributes"]).expect(0);
    ask(&server, ["delete", &key(&tree, "many/42")]).expect(0);

    let answer = import(&server, &tree, &["--verify-only"]);
    let text = answer.expect(1);
    let expected = [
        (
            "different",
            "a/b/file",
            "size is 18 in the tree and 5 in the store",
        ),
        ("extra", "many/17", "in the store, not in the tree"),
        ("missing", "many/new", "in the tree, not in the store"),
        ("different", "a.b/file", "mode is 0640 in the tree and 0"),
        (
            "different",
            "a/link",
            "target is \"elsewhere\" in the tree and \"b/no where\" in",
        ),
        ("extra", "a/b/stray", "in the store, not in the tree"),
        ("extra", "no/such/place", "in the store, not in the tree"),
        (
            "not-attributes",
            "a/fifo",
            "the store holds no attributes: not attributes",
        ),
        ("missing", "many/42", "in the tree, not in the store"),
        // Their entries changed, and so their time of change did.
        ("different", "a", "mtime"),
        ("different", "many", "mtime"),
    ];
    for (kind, below, detail) in expected {
        let start = format!("{kind} {}: ", key(&tree, below));
        let line = text.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no line {start} in {text}"));
        assert!(line.contains(detail), "{line}");
    }
    assert_eq!(
        answer.last_line(1),
        format!("{} differences", expected.len())
    );

    // Storing it again leaves what is not in the tree.
    import(&server, &tree, &[]).expect(0);
    let answer = import(&server, &tree, &["--verify-only"]);
    assert_eq!(answer.last_line(1), "3 differences");
    for below in ["many/17", "a/b/stray", "no/such/place"] {
        ask(&server, ["delete", &key(&tree, below)]).expect(0);
    }
    let answer = import(&server, &tree, &["--verify-only"]);
    assert_eq!(answer.last_line(0), "0 differences");
}

#[test]
fn a_prefix_sets_one_tree_apart_from_another() {
    let directory = TestDirectory::new("import-prefix");
    let server = start(&directory.path().join("data"));
    let tree = plant(directory.path());
    import(&server, &tree, &["--prefix", "one:"]).expect(0);
    let listed = ask(
        &server,
        [
            "list",
            &format!("one:{}", key(&tree, "a/")),
            "--children",
            "--keys-only",
        ],
    );
    assert_eq!(listed.expect(0).lines().count(), 3);
    let answer = import(&server, &tree, &["--verify-only", "--prefix", "one:"]);
    assert_eq!(answer.last_line(0), "0 differences");
    let answer = import(&server, &tree, &["--verify-only", "--prefix", "two:"]);
    assert_eq!(
        answer.last_line(1),
        format!("{} differences", FILES + OTHERS)
    );
}

#[test]
fn an_entry_whose_key_is_too_long_is_named_and_not_stored() {
    let directory = TestDirectory::new("import-long");
    let server = start(&directory.path().join("data"));
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).expect("creates");
    fs::write(tree.join("file"), "").expect("writes");
    // The longest key that the server takes is that of the top.
    let prefix = "p".repeat(4096 - tree.as_os_str().len());
    let answer = import(&server, &tree, &["--prefix", &prefix]);
    assert!(answer.last_line(1).starts_with("1 entries, "), "{answer:?}");
    assert!(
        answer.err.contains("/tree/file: the server takes no keys"),
        "{answer:?}"
    );
    let answer = import(&server, &tree, &["--prefix", &prefix, "--verify-only"]);
    assert_eq!(answer.last_line(1), "1 differences");
    let missing = format!("missing {}: ", key(&tree, "file"));
    assert!(answer.expect(1).contains(&missing), "{answer:?}");
}
