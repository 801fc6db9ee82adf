//! Text to tokens.

use std::fmt;

use crate::error::Error;

/// A token and the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind<'t>,
    /// From 1.
    pub(crate) line: usize,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'t> {
    /// A keyword, name, number or address.
    Word(&'t str),
    /// Between double quotes, which are not part of it.
    Quoted(&'t str),
    /// `{ } , = == != + & | @ . :`
    Symbol(&'static str),
    /// The end of a statement: a semicolon or the end of a line. Several in a row are one.
    End,
}

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Quoted(text) => write!(f, "\"{text}\""),
            Self::Symbol(symbol) => f.write_str(symbol),
            Self::End => f.write_str(";"),
        }
    }
}

/// The symbol that a text begins with.
fn symbol(first: char, text: &str) -> Option<&'static str> {
    Some(match first {
        '!' if text.starts_with("!=") => "!=",
        '=' if text.starts_with("==") => "==",
        '{' => "{",
        '}' => "}",
        ',' => ",",
        '=' => "=",
        '+' => "+",
        '&' => "&",
        '|' => "|",
        '@' => "@",
        _ => return None,
    })
}

/// Splits a text into tokens. A point or colon that stands alone is a symbol; within a word (a name, an
/// address) it belongs to the word, as nft has it, too.
pub(crate) fn lex<'t>(file: &str, text: &'t str) -> Result<Vec<Token<'t>>, Error> {
    let mut tokens: Vec<Token<'t>> = Vec::new();
    for (index, full) in text.lines().enumerate() {
        let line = index + 1;
        let mut push = |kind: Kind<'t>| {
            let repeated = kind == Kind::End && tokens.last().is_none_or(|t| t.kind == Kind::End);
            if !repeated {
                tokens.push(Token { kind, line });
            }
        };
        let mut rest = full.trim_start();
        while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
            let length = if first == ';' {
                push(Kind::End);
                1
            } else if first == '"' {
                let Some(end) = rest[1..].find('"') else {
                    return Err(unexpected(file, line, "a quote that is not closed"));
                };
                push(Kind::Quoted(&rest[1..=end]));
                end + 2
            } else if let Some(symbol) = symbol(first, rest) {
                push(Kind::Symbol(symbol));
                symbol.len()
            } else {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                match &rest[..end] {
                    "" => return Err(unexpected(file, line, &format!("unexpected {first:?}"))),
                    "." => push(Kind::Symbol(".")),
                    ":" => push(Kind::Symbol(":")),
                    word => push(Kind::Word(word)),
                }
                end
            };
            rest = rest[length..].trim_start();
        }
        push(Kind::End);
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':')
}

/// The error for a text that the compiler does not take.
pub(crate) fn unexpected(file: &str, line: usize, why: &str) -> Error {
    Error::Template { file: file.to_owned(), line, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        lex("x.nft", text).unwrap().iter().map(|t| t.kind.to_string()).collect()
    }

    #[test]
    fn points_and_colons_separate_only_where_they_stand_alone() {
        assert_eq!(
            texts("type ipv4_addr . mark : verdict; ::1 10.0.0.0/8"),
            ["type", "ipv4_addr", ".", "mark", ":", "verdict", ";", "::1", "10.0.0.0/8", ";"]
        );
    }

    #[test]
    fn comments_and_empty_lines_vanish() {
        assert_eq!(texts("\n\n# all\n a # \"b\n\n;\n != @b\n"), ["a", ";", "!=", "@", "b", ";"]);
    }

    #[test]
    fn what_is_no_token_is_an_error_with_its_line() {
        let error = lex("x.nft", "a\nb * c").unwrap_err();
        assert_eq!(error.to_string(), "x.nft:2: unexpected '*'");
        assert!(lex("x.nft", "\"open").is_err());
    }
}
