//! The subset of nft's language that the templates are written in: text to syntax tree.
//!
//! Only what the `*.nft` files use is understood; anything else is an error with its line, so that a
//! template cannot silently mean something else here than it means to `nft -f`.

mod lexer;
mod parser;
mod syntax;

pub(crate) use self::{
    parser::parse,
    syntax::{
        BaseChain, Bits, Chain, ChainKind, Data, Field, Ip, Nat, Operand, Rule, Set, Statement,
        Table, Type, Verdict,
    },
};

/// The text's tokens, one space between each: what the text says without its comments and layout.
#[cfg(test)]
pub(crate) fn normalized(file: &str, text: &str) -> Result<String, crate::Error> {
    let tokens = lexer::lex(file, text)?;
    let mut out = String::new();
    for token in tokens {
        out.push_str(&token.kind.to_string());
        out.push(' ');
    }
    Ok(out)
}
