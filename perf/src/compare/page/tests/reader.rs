//! Reads pages back, strictly: what a browser would mend is a fault here.

/// Elements that have no end.
const VOID: [&str; 1] = ["meta"];

/// A piece of text with the elements around it.
#[derive(Debug)]
pub(super) struct Piece {
    /// From the outermost in, each with its attributes.
    pub(super) around: Vec<Element>,
    pub(super) text: String,
}

#[derive(Debug, Clone)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All texts of a page except its style sheet, and with them those attributes that are read out or shown to people.
pub(super) fn read(page: &str) -> Vec<Piece> {
    let mut rest = page
        .strip_prefix("<!doctype html>")
        .expect("a page says what it is");
    let mut around: Vec<Element> = Vec::new();
    let mut pieces = Vec::new();
    while let Some(start) = rest.find('<') {
        let (text, tag) = rest.split_at(start);
        push_piece(&mut pieces, &around, text);
        let end = tag.find('>').expect("a tag has an end");
        rest = &tag[end + 1..];
        let tag = &tag[1..end];
        if let Some(name) = tag.strip_prefix('/') {
            let open = around.pop().expect("only what was opened is closed");
            assert_eq!(open.name, name, "elements lie within each other");
            continue;
        }
        let element = read_tag(tag);
        for shown in ["aria-label", "title", "data-name"] {
            if let Some(text) = element.attribute(shown) {
                let (around, text) = (around.clone(), text.to_owned());
                pieces.push(Piece { around, text });
            }
        }
        if !VOID.contains(&element.name.as_str()) {
            around.push(element);
        }
    }
    assert!(around.is_empty(), "everything is closed: {around:?}");
    assert_eq!(rest, "\n", "nothing follows the page");
    pieces
}

fn push_piece(pieces: &mut Vec<Piece>, around: &[Element], text: &str) {
    if around.last().is_some_and(|element| element.name == "style") {
        return;
    }
    assert!(!text.contains('>'), "{text:?}");
    if !text.trim().is_empty() {
        pieces.push(Piece {
            around: around.to_vec(),
            text: unescape(text),
        });
    }
}

/// A name and attributes, all of them in double quotes.
fn read_tag(tag: &str) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(
        name.chars()
            .all(|character| character.is_ascii_alphanumeric()),
        "{tag:?}"
    );
    let mut attributes: Vec<(String, String)> = Vec::new();
    while !rest.is_empty() {
        let (attribute, value) = rest.split_once("=\"").expect("an attribute has a value");
        let (value, behind) = value.split_once('"').expect("a value has an end");
        assert!(
            attribute
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || character == '-'),
            "{tag:?}"
        );
        assert!(
            attributes.iter().all(|(other, _)| other != attribute),
            "{tag:?}"
        );
        attributes.push((attribute.to_owned(), unescape(value)));
        rest = behind.strip_prefix(' ').unwrap_or(behind);
    }
    Element {
        name: name.to_owned(),
        attributes,
    }
}

fn unescape(text: &str) -> String {
    let text = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (written, meant)| {
        text.replace(written, meant)
    });
    text.replace("&amp;", "&")
}

/// The numbers in a text, as they are written.
pub(super) fn numbers(text: &str) -> Vec<String> {
    let mut numbers = Vec::new();
    let mut number = String::new();
    for character in text.chars().chain([' ']) {
        let goes_on = !number.is_empty() && matches!(character, ',' | '.');
        if character.is_ascii_digit() || goes_on {
            number.push(character);
        } else if !number.is_empty() {
            numbers.push(number.trim_end_matches([',', '.']).to_owned());
            number.clear();
        }
    }
    numbers
}
