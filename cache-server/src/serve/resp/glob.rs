//! Patterns of `KEYS` and `SCAN`: `*`, `?`, `[a-z]`, `[^a]` and a backslash before what is
//! meant as it is.

/// True if all of `text` is what `pattern` describes.
///
/// Takes at most the product of both lengths: a star that fails gives way to the next
/// character of the text, and only the last star is ever gone back to.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if let Some(next) = one(pattern, p, text[t]) {
            (p, t) = (next, t + 1);
            continue;
        }
        let Some((after, from)) = star else { return false };
        (p, t) = (after, from + 1);
        star = Some((after, from + 1));
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Where the pattern goes on if what is at `p` describes `byte`.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

/// The same for the class whose bracket is before `p`. One without an end ends with the pattern.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let is_not = pattern.get(p) == Some(&b'^');
    p += usize::from(is_not);
    let mut is_in = false;
    loop {
        match pattern.get(p) {
            None => break,
            Some(b']') => {
                p += 1;
                break;
            }
            Some(b'\\') if p + 1 < pattern.len() => {
                is_in |= pattern[p + 1] == byte;
                p += 2;
            }
            Some(&low) => match (pattern.get(p + 1), pattern.get(p + 2)) {
                (Some(b'-'), Some(&high)) => {
                    is_in |= (low.min(high)..=low.max(high)).contains(&byte);
                    p += 3;
                }
                _ => {
                    is_in |= low == byte;
                    p += 1;
                }
            },
        }
    }
    (is_in != is_not).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_describes_what_redis_says_it_does() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hello!", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("[abc", "c", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("user:*:name", "user:7:name", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "a*".repeat(1_000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }
}
