//! Each message that the troubleshooting chapter explains is in the source.

use proc_macro2::{TokenStream, TokenTree};

use super::{files, read, root};

const CHAPTER: &str = "docs/guide/troubleshooting.md";

/// Returns the span of code that a cell of a table begins with.
fn span(cell: &str) -> Option<&str> {
    let ticks = cell.len() - cell.trim_start_matches('`').len();
    let (fence, rest) = cell.split_at(ticks);
    (ticks > 0).then(|| rest.split(fence).next().unwrap_or_default().trim())
}

/// Returns the messages of the chapter: the first cells of its tables.
fn messages(page: &str) -> Vec<&str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(span).collect()
}

/// Returns the texts of the source, as they are written there, but for escapes.
fn texts() -> Vec<String> {
    let mut texts = Vec::new();
    for folder in ["session-runtime/src", "session-derive/src"] {
        for path in files(&root().join(folder), "rs") {
            let tokens: TokenStream = read(&path).parse().expect("the source is Rust");
            collect(tokens, &mut texts);
        }
    }
    texts
}

fn collect(tokens: TokenStream, texts: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => collect(group.stream(), texts),
            // A comment, `#[doc = ".."]`, is no message.
            TokenTree::Ident(ident) if ident == "doc" => {
                tokens.next_if(|next| matches!(next, TokenTree::Punct(punct) if punct.as_char() == '='));
                tokens.next_if(|next| matches!(next, TokenTree::Literal(_)));
            }
            TokenTree::Literal(literal) => texts.push(unescaped(&literal.to_string())),
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// Joins the lines of a text, and takes off its escapes.
fn unescaped(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let mut text = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        text += line.trim_start();
    }
    text.replace("\\\"", "\"")
}

/// Returns whether a text has the parts of a message, in their order: `..` stands for what differs.
fn has(text: &str, message: &str) -> bool {
    let mut rest = text;
    message.split("..").all(|part| match rest.split_once(part.trim()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn every_message_that_the_guide_explains_exists() {
    let (page, texts) = (read(root().join(CHAPTER)), texts());
    let messages = messages(&page);
    assert!(messages.len() > 60, "only {} messages were found", messages.len());
    let is_there = |message: &&str| texts.iter().any(|text| has(text, message));
    let missing: Vec<_> = messages.iter().filter(|message| !is_there(message)).collect();
    assert!(missing.is_empty(), "not in the source: {missing:#?}");
}

#[test]
fn a_message_that_does_not_exist_is_found() {
    let texts = texts();
    for message in ["the moon is full", "the key .. that a session is eaten with"] {
        assert!(!texts.iter().any(|text| has(text, message)), "{message}");
    }
    // It stands in a comment.
    let comment = "A session could not be loaded, changed or stored.";
    assert!(!texts.iter().any(|text| has(text, comment)), "comments are no messages");
}
