//! HTML that is written in one go. Every text and every attribute is escaped on its way in; names of elements and
//! attributes are constants of the program, and an element is closed by the scope that opened it.

/// Elements that stand within a line. Before all others a new line begins, so that a page can be read and compared.
const INLINE: [&str; 12] = [
    "a", "abbr", "b", "code", "i", "small", "span", "strong", "sup", "time", "title", "wbr",
];

/// A name and a value. The value may hold anything.
pub(super) type Attribute<'a> = (&'static str, &'a str);

/// A page, or the part of it that was written so far.
#[derive(Debug)]
pub(super) struct Html {
    text: String,
}

impl Html {
    /// A page that begins as every page does.
    pub(super) fn new() -> Html {
        Html {
            text: "<!doctype html>".to_owned(),
        }
    }

    /// The page.
    pub(super) fn finish(mut self) -> String {
        self.text.push('\n');
        self.text
    }

    /// An element with whatever `fill` puts into it.
    pub(super) fn within(
        &mut self,
        name: &'static str,
        attributes: &[Attribute<'_>],
        fill: impl FnOnce(&mut Html),
    ) {
        self.open(name, attributes);
        fill(self);
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// An element with nothing but text in it.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: &[Attribute<'_>], text: &str) {
        self.within(name, attributes, |html| html.text(text));
    }

    /// A part that scrolls by itself where it is wider than the page, with the keyboard too.
    pub(super) fn scrolling(&mut self, label: &str, fill: impl FnOnce(&mut Html)) {
        let attributes = [
            ("class", "wide"),
            ("role", "region"),
            ("aria-label", label),
            ("tabindex", "0"),
        ];
        self.within("div", &attributes, fill);
    }

    /// An element of HTML that has no end, such as `meta`.
    pub(super) fn void(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.open(name, attributes);
    }

    /// Text.
    pub(super) fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\'' => self.text.push_str("&#39;"),
                // HTML has no way to write these, or they would turn the text around them.
                control if control.is_control() && control != '\n' => self.text.push('\u{fffd}'),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.text.push('\u{fffd}'),
                other => self.text.push(other),
            }
        }
    }

    /// The style sheet, which belongs to the program and must not be escaped.
    pub(super) fn style(&mut self, sheet: &'static str) {
        self.open("style", &[]);
        self.text.push('\n');
        self.text.push_str(sheet);
        self.text.push_str("</style>");
    }

    fn open(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        if !INLINE.contains(&name) {
            self.text.push('\n');
        }
        self.text.push('<');
        self.text.push_str(name);
        for (attribute, value) in attributes {
            self.text.push(' ');
            self.text.push_str(attribute);
            self.text.push_str("=\"");
            self.text(value);
            self.text.push('"');
        }
        self.text.push('>');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_comes_in_is_markup() {
        let mut html = Html::new();
        html.leaf(
            "p",
            &[("title", "\"><b onx='1'>")],
            "</p><script>&\u{0}\u{202e}\n",
        );
        assert_eq!(
            html.finish(),
            "<!doctype html>\n<p title=\"&quot;&gt;&lt;b onx=&#39;1&#39;&gt;\">\
             &lt;/p&gt;&lt;script&gt;&amp;\u{fffd}\u{fffd}\n</p>\n"
        );
    }

    #[test]
    fn only_blocks_begin_a_line() {
        let mut html = Html::new();
        html.within("ul", &[], |html| {
            html.within("li", &[], |html| {
                html.text("a ");
                html.leaf("b", &[], "c");
            });
        });
        assert_eq!(
            html.finish(),
            "<!doctype html>\n<ul>\n<li>a <b>c</b></li></ul>\n"
        );
    }
}
