//! CommonMark to the few kinds of blocks that declarations are made of, each
//! with its place in the file.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

/// Blocks nested deeper than this are not looked into: declarations need three
/// levels, and a file of nothing but list markers must not exhaust the stack.
const MAX_DEPTH: usize = 12;

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Heading(usize),
    Paragraph,
    List,
    Item,
    Code(Code),
    Html,
    Other,
}

/// A code block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Code {
    /// The word after the fence, lower case; empty where there is none.
    pub(super) language: String,
    /// Its content, without the indentation of what it lies in.
    pub(super) text: String,
    /// Where pieces of the content come from: (place in `text`, place in the file).
    pieces: Vec<(usize, usize)>,
    /// Whether it has fences rather than indentation.
    pub(super) fenced: bool,
}

impl Code {
    /// A code block whose content is a piece of the file as it stands.
    pub(super) fn verbatim(text: &str, at: usize) -> Self {
        let pieces = vec![(0, at)];
        Self { language: String::new(), text: text.to_owned(), pieces, fenced: false }
    }

    /// The place in the file of the byte at `at` of the content.
    pub(super) fn place(&self, at: usize) -> usize {
        let next = self.pieces.partition_point(|(start, _)| *start <= at);
        match next.checked_sub(1).and_then(|i| self.pieces.get(i)) {
            Some((start, place)) => place + (at - start),
            None => 0,
        }
    }
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
    /// Where its own text lies, without markers.
    pub(super) inline: Option<Range<usize>>,
    pub(super) children: Vec<Block>,
}

impl Block {
    fn new(kind: Kind, range: Range<usize>) -> Self {
        Self { kind, range, inline: None, children: Vec::new() }
    }

    /// Its code, if it is a code block.
    pub(super) fn code(&self) -> Option<&Code> {
        if let Kind::Code(code) = &self.kind { Some(code) } else { None }
    }

    /// Where the first text of a list item lies, and the blocks after it.
    pub(super) fn head(&self) -> (Option<Range<usize>>, &[Block]) {
        match (&self.inline, self.children.split_first()) {
            (None, Some((first, rest))) if first.kind == Kind::Paragraph => {
                (first.inline.clone(), rest)
            }
            (inline, _) => (inline.clone(), &self.children),
        }
    }

    /// Takes in a piece of text that lies in this block itself.
    fn take_text(&mut self, range: Range<usize>) {
        // Text of a tight list item that comes after its other blocks.
        if self.kind == Kind::Item && !self.children.is_empty() {
            match self.children.last_mut() {
                Some(last) if last.kind == Kind::Paragraph => last.take_text(range),
                Some(_) | None => {
                    let mut paragraph = Block::new(Kind::Paragraph, range.clone());
                    paragraph.inline = Some(range);
                    self.children.push(paragraph);
                }
            }
            return;
        }
        self.inline = Some(match self.inline.take() {
            Some(have) => have.start.min(range.start)..have.end.max(range.end),
            None => range.clone(),
        });
        if self.kind == Kind::Paragraph {
            self.range.end = self.range.end.max(range.end);
        }
    }
}

/// The blocks of `text`; their places count from `offset`.
pub(super) fn parse(text: &str, offset: usize) -> Vec<Block> {
    let mut root = Block::new(Kind::Other, 0..0);
    let mut open: Vec<Block> = Vec::new();
    // Inline elements, and blocks that lie too deep, are open too.
    let mut passed_over: Vec<bool> = Vec::new();
    for (event, range) in Parser::new_ext(text, Options::empty()).into_offset_iter() {
        let range = range.start + offset..range.end + offset;
        let top = open.last_mut().unwrap_or(&mut root);
        match event {
            Event::Start(tag) => {
                let block = (passed_over.len() < MAX_DEPTH).then(|| kind_of(&tag)).flatten();
                passed_over.push(block.is_none());
                match block {
                    Some(kind) => open.push(Block::new(kind, range)),
                    None => top.take_text(range),
                }
            }
            Event::End(_) => {
                if passed_over.pop() == Some(false)
                    && let Some(block) = open.pop()
                {
                    open.last_mut().unwrap_or(&mut root).children.push(block);
                }
            }
            Event::Text(piece) => match &mut top.kind {
                Kind::Code(code) => {
                    code.pieces.push((code.text.len(), range.start));
                    code.text.push_str(&piece);
                }
                Kind::Heading(_)
                | Kind::Paragraph
                | Kind::List
                | Kind::Item
                | Kind::Html
                | Kind::Other => top.take_text(range),
            },
            Event::Rule => top.children.push(Block::new(Kind::Other, range)),
            Event::Code(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::Html(_)
            | Event::InlineHtml(_)
            | Event::FootnoteReference(_)
            | Event::SoftBreak
            | Event::HardBreak
            | Event::TaskListMarker(_) => top.take_text(range),
        }
    }
    root.children
}

/// `None` for what is no block of its own.
fn kind_of(tag: &Tag<'_>) -> Option<Kind> {
    Some(match tag {
        Tag::Heading { level, .. } => Kind::Heading(*level as usize),
        Tag::Paragraph => Kind::Paragraph,
        Tag::List(_) => Kind::List,
        Tag::Item => Kind::Item,
        Tag::CodeBlock(CodeBlockKind::Indented) => Kind::Code(Code::default()),
        Tag::CodeBlock(CodeBlockKind::Fenced(info)) => {
            let language = info.split([' ', ',', '\t']).next().unwrap_or_default().to_lowercase();
            Kind::Code(Code { language, fenced: true, ..Code::default() })
        }
        Tag::HtmlBlock => Kind::Html,
        Tag::BlockQuote(_)
        | Tag::FootnoteDefinition(_)
        | Tag::DefinitionList
        | Tag::DefinitionListTitle
        | Tag::DefinitionListDefinition
        | Tag::Table(_)
        | Tag::TableHead
        | Tag::TableRow
        | Tag::TableCell
        | Tag::MetadataBlock(_) => Kind::Other,
        Tag::Emphasis
        | Tag::Strong
        | Tag::Strikethrough
        | Tag::Superscript
        | Tag::Subscript
        | Tag::Link { .. }
        | Tag::Image { .. } => return None,
    })
}

/// Whether a fence or an HTML comment that opens in `raw`, the source of a
/// block, is closed in it: one that is not swallows all that follows.
pub(super) fn is_closed(kind: &Kind, raw: &str) -> bool {
    match kind {
        Kind::Code(code) if code.fenced => {
            let opening = raw.trim_start();
            let Some(mark) = opening.chars().next() else { return true };
            let length = opening.chars().take_while(|c| *c == mark).count();
            let mut lines = raw.trim_end().lines();
            let first = lines.next();
            lines.next_back().is_some_and(|last| {
                let last = last.trim();
                first.is_some() && last.len() >= length && last.chars().all(|c| c == mark)
            })
        }
        Kind::Html => !raw.trim_start().starts_with("<!--") || raw.contains("-->"),
        Kind::Code(_)
        | Kind::Heading(_)
        | Kind::Paragraph
        | Kind::List
        | Kind::Item
        | Kind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(text: &str) -> Vec<&str> {
        let blocks = parse(text, 0);
        let list = blocks.iter().find(|block| block.kind == Kind::List).unwrap();
        let head = |item: &Block| item.head().0.map(|range| &text[range]);
        list.children.iter().filter_map(head).collect()
    }

    #[test]
    fn item_heads_should_be_found_in_tight_and_loose_lists() {
        assert_eq!(heads("- a: *x*\n- b: `y`\n  ```sh\n  z\n  ```\n"), ["a: *x*", "b: `y`"]);
        assert_eq!(heads("- a: x\n\n- b: y\n\n  more\n"), ["a: x", "b: y"]);
    }

    #[test]
    fn text_after_a_nested_block_should_be_a_block_of_its_own() {
        let text = "- a: x\n  ```sh\n  z\n  ```\n  more *of* it\n";
        let blocks = parse(text, 0);
        let (head, rest) = blocks[0].children[0].head();
        assert_eq!(&text[head.unwrap()], "a: x");
        assert_eq!(rest.len(), 2);
        assert_eq!(&text[rest[1].range.clone()], "more *of* it");
    }

    #[test]
    fn code_should_know_where_its_content_lies() {
        let text = "- a\n  ```sh\n  one\n    two\n  ```\n";
        let blocks = parse(text, 0);
        let Kind::Code(code) = &blocks[0].children[0].head().1[0].kind else {
            panic!("{blocks:?}")
        };
        assert_eq!((code.text.as_str(), code.language.as_str()), ("one\n  two\n", "sh"));
        let place = code.place(code.text.find("two").unwrap());
        assert!(text[place..].starts_with("two"), "{place}");
    }

    #[test]
    fn open_fences_and_comments_should_be_told() {
        let closed = |text: &str| {
            let blocks = parse(text, 0);
            let last = blocks.last().unwrap();
            is_closed(&last.kind, &text[last.range.clone()])
        };
        assert!(closed("```sh\nx\n```\n") && closed("~~~~\nx\n~~~~~\n") && closed("<!-- x\n-->\n"));
        assert!(!closed("```sh\nx\n") && !closed("````\nx\n```\n") && !closed("```\n"));
        assert!(!closed("<!-- x\n") && closed("    indented\n"));
    }

    #[test]
    fn deep_nesting_should_neither_panic_nor_take_for_ever() {
        for unit in ["- ", "> ", "1. ", "[", "*", "`a ", "<!--", "* > "] {
            let text = unit.repeat(20_000);
            let _ = parse(&text, 0);
        }
    }
}
