//! Rust's sources as tokens: no macro is expanded and no name is resolved.

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

impl Token {
    pub(crate) fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The index of the bracket that closes the one at `open`.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// The first token after the item, statement, field or argument that begins at `from`.
pub(crate) fn end_of_item(tokens: &[Token], from: usize) -> usize {
    const ITEMS: [&str; 17] = [
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "let",
        "macro_rules",
        "mod",
        "pub",
        "static",
        "struct",
        "trait",
        "type",
        "union",
        "unsafe",
        "use",
    ];
    let mut at = from;
    // The item's other attributes.
    while tokens.get(at).is_some_and(|token| token.is('#')) {
        at = closing(tokens, at + 1) + 1;
    }
    let item = tokens.get(at).and_then(Token::word).is_some_and(|word| ITEMS.contains(&word));
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Sign(';') => return at + 1,
            // In an item, commas separate generic arguments.
            Token::Sign(',') if !item => return at + 1,
            Token::Sign(')' | ']' | '}') => return at,
            Token::Sign('{') => return closing(tokens, at) + 1,
            Token::Sign('(' | '[') => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    at
}

/// The end of the braces that contain `from`.
pub(crate) fn end_of_braces(tokens: &[Token], from: usize) -> usize {
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Sign('}') => return at,
            Token::Sign('(' | '[' | '{') => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    at
}

/// Words, texts and single signs, without comments, numbers, characters or lifetimes.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c == '/' && peek(at + 1) == '/' {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && peek(at + 1) == '*' {
            let mut depth = 0_usize;
            loop {
                match (peek(at), peek(at + 1)) {
                    ('/', '*') => (depth, at) = (depth + 1, at + 2),
                    ('*', '/') => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if c == '_' || c.is_alphabetic() {
            let start = at;
            while peek(at) == '_' || peek(at).is_alphanumeric() {
                at += 1;
            }
            let word: String = chars[start..at].iter().collect();
            let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
            if ["r", "br", "cr"].contains(&word.as_str()) && peek(at + hashes) == '"' {
                let start = at + hashes + 1;
                let end = (start..chars.len())
                    .find(|&end| chars[end] == '"' && (1..=hashes).all(|i| peek(end + i) == '#'))
                    .unwrap_or(chars.len());
                tokens.push(Token::Text(chars[start.min(end)..end].iter().collect()));
                at = end + 1 + hashes;
            } else if word == "r" && hashes == 1 {
                // A raw identifier.
                at += 1;
            } else if !(["b", "c"].contains(&word.as_str()) && ['"', '\''].contains(&peek(at))) {
                tokens.push(Token::Word(word));
            }
        } else if c.is_ascii_digit() {
            while peek(at) == '_' || peek(at).is_alphanumeric() {
                at += 1;
            }
        } else if c == '"' {
            let start = at + 1;
            at = start;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            tokens.push(Token::Text(chars[start..at.min(chars.len())].iter().collect()));
            at += 1;
        } else if c == '\'' {
            if peek(at + 1) == '\\' {
                at += 3;
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            } else if peek(at + 2) == '\'' {
                at += 3;
            } else {
                // A lifetime.
                at += 1;
                while peek(at) == '_' || peek(at).is_alphanumeric() {
                    at += 1;
                }
            }
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Sign(c));
            }
            at += 1;
        }
    }
    tokens
}
