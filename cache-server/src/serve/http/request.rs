//! Requests of HTTP, taken apart.
//!
//! Owns: what a request may be: a head of some kilobytes, and a body whose length is told. Any
//! bytes yield a request, a refusal, or the wish for more; none can make it hold more than
//! the limits. What is ambiguous (two lengths, two hosts, chunks) is refused, so that no
//! proxy in front reads another request than we do.

use super::reply::Status;

/// The largest head of a request.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// The largest body: a form with a key in it.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// What a request asks to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Show it.
    Get,
    /// Show what would be told about it.
    Head,
    /// Do it.
    Post,
    /// Nothing that is known here.
    Other,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// What to do.
    pub method: Method,
    /// With what, without what follows the `?`.
    pub path: &'a str,
    /// What follows it.
    pub query: &'a str,
    /// The name by which the server was asked for.
    pub host: Option<&'a [u8]>,
    /// `Authorization`
    pub authorization: Option<&'a [u8]>,
    /// `Cookie`
    pub cookie: Option<&'a [u8]>,
    /// `Origin`
    pub origin: Option<&'a [u8]>,
    /// `X-CSRF-Token`
    pub csrf: Option<&'a [u8]>,
    /// The body.
    pub body: &'a [u8],
    /// The client goes on with this connection.
    pub is_kept: bool,
}

/// What bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A request, and how many of the bytes it is.
    Whole(Request<'a>, usize),
    /// The beginning of one that has at least `needed` bytes.
    Partial {
        /// Bytes of the request, as far as is known.
        needed: usize,
        /// The client waits to be told that its body is wanted.
        is_expecting: bool,
    },
}

/// Why there is no request: the status, and words for it.
pub type Refused = (Status, &'static str);

/// Takes the request at the start of `input` apart.
///
/// # Errors
/// It is none, or one that is not served: the connection ends with this answer.
pub fn parse(input: &[u8]) -> Result<Parsed<'_>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(&input[..input.len().min(HEAD_BYTES_MAX)]) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if input.len() >= HEAD_BYTES_MAX => {
            return Err((Status::HeadTooLarge, "the head of a request has at most 16 KiB"));
        }
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial { needed: input.len() + 1, is_expecting: false }),
        Err(httparse::Error::TooManyHeaders) => {
            return Err((Status::HeadTooLarge, "a request has at most 64 headers"));
        }
        Err(_) => return Err((Status::BadRequest, "this is no request of HTTP/1.1")),
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => Method::Other,
    };
    let (authority, target) = target(head.path.unwrap_or_default())?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let one = |name: &str| -> Result<Option<&[u8]>, Refused> {
        let mut found = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let first = found.next().map(|header| header.value);
        match found.next() {
            Some(_) => Err((Status::BadRequest, "a header that says one thing was given twice")),
            None => Ok(first),
        }
    };
    if one("Transfer-Encoding")?.is_some() {
        return Err((Status::BadRequest, "a body in chunks is not understood; give Content-Length"));
    }
    let body_bytes = match one("Content-Length")? {
        None => 0,
        Some(text) => length(text)?,
    };
    let is_newer = head.version == Some(1);
    let host = one("Host")?;
    if is_newer && host.is_none() {
        return Err((Status::BadRequest, "a request of HTTP/1.1 says Host"));
    }
    // A list goes on in another header of its name.
    let says = |word: &str| {
        let lists = head.headers.iter().filter(|header| is_word(header.name.as_bytes(), "Connection"));
        let mut parts = lists.flat_map(|header| header.value.split(|byte| *byte == b','));
        parts.any(|part| is_word(part.trim_ascii(), word))
    };
    let is_expecting = match one("Expect")? {
        None => false,
        Some(what) if is_word(what, "100-continue") => is_newer,
        Some(_) => return Err((Status::ExpectationFailed, "Expect is understood as 100-continue only")),
    };
    let whole = head_bytes + body_bytes;
    if input.len() < whole {
        return Ok(Parsed::Partial { needed: whole, is_expecting });
    }
    let request = Request {
        method,
        path,
        query,
        // What the target says goes before what Host says.
        host: authority.or(host),
        authorization: one("Authorization")?,
        cookie: one("Cookie")?,
        origin: one("Origin")?,
        csrf: one("X-CSRF-Token")?,
        body: &input[head_bytes..whole],
        is_kept: if is_newer { !says("close") } else { says("keep-alive") },
    };
    Ok(Parsed::Whole(request, whole))
}

/// The server's name, where it is part of the target, as a proxy is asked; and the rest of it.
fn target(target: &str) -> Result<(Option<&[u8]>, &str), Refused> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let after = |scheme: &str| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let Some(rest) = after("http://").or_else(|| after("https://")) else {
        return Err((Status::BadRequest, "the target of a request begins with / or with http://"));
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !path.starts_with('/') && !path.is_empty() {
        return Err((Status::BadRequest, "the path of a request begins with /"));
    }
    Ok((Some(authority.as_bytes()), if path.is_empty() { "/" } else { path }))
}

fn is_word(bytes: &[u8], word: &str) -> bool {
    bytes.eq_ignore_ascii_case(word.as_bytes())
}

fn length(text: &[u8]) -> Result<usize, Refused> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err((Status::BadRequest, "Content-Length is a number"));
    }
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match number.filter(|bytes| *bytes <= BODY_BYTES_MAX) {
        Some(bytes) => Ok(bytes),
        None => Err((Status::BodyTooLarge, "the body of a request has at most 256 KiB")),
    }
}

/// The value of `name` in a query or a form, with its `%` and `+` undone; `None` if it is not there.
///
/// # Errors
/// A `%` without two digits.
pub fn field(form: &[u8], name: &str) -> Result<Option<Vec<u8>>, Refused> {
    for pair in form.split(|byte| *byte == b'&') {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        if &pair[..at] == name.as_bytes() {
            return decode(pair.get(at + 1..).unwrap_or_default()).map(Some);
        }
    }
    Ok(None)
}

fn decode(text: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err((Status::BadRequest, "a % stands before two hexadecimal digits")),
                }
            }
            other => *other,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(input: &[u8]) -> (Request<'_>, usize) {
        match parse(input).unwrap() {
            Parsed::Whole(request, bytes) => (request, bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_what_it_says_and_the_next_one_stays() {
        let input = b"GET /api/key?key=a%20b&x HTTP/1.1\r\nhost: localhost:1\r\ncookie: a=b\r\n\r\nGET ";
        let (request, bytes) = whole(input);
        assert_eq!((request.method, request.path, request.query), (Method::Get, "/api/key", "key=a%20b&x"));
        assert_eq!((request.host, request.cookie), (Some(&b"localhost:1"[..]), Some(&b"a=b"[..])));
        assert!(request.is_kept && bytes == input.len() - 4);
        let input = b"POST /api/delete HTTP/1.0\r\nContent-Length: 3\r\n\r\na=bGET";
        let (request, bytes) = whole(input);
        assert_eq!((request.method, request.body, request.is_kept), (Method::Post, &b"a=b"[..], false));
        assert_eq!(bytes, input.len() - 3);
    }

    #[test]
    fn the_name_in_the_target_goes_before_the_host() {
        for (target, path, query) in [("HTTP://a:1/b?c", "/b", "c"), ("http://a:1", "/", ""), ("https://a:1/", "/", "")]
        {
            let input = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
            let (request, _) = whole(input.as_bytes());
            assert_eq!((request.host, request.path, request.query), (Some(&b"a:1"[..]), path, query), "{target}");
        }
    }

    #[test]
    fn a_list_may_be_in_several_headers() {
        let (request, _) = whole(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: y, Close\r\n\r\n");
        assert!(!request.is_kept);
    }

    #[test]
    fn what_is_not_whole_says_how_much_is_missing() {
        assert_eq!(parse(b"GET / HT"), Ok(Parsed::Partial { needed: 9, is_expecting: false }));
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
        assert_eq!(parse(head), Ok(Parsed::Partial { needed: head.len() + 7, is_expecting: false }));
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-Continue\r\n\r\n";
        assert_eq!(parse(head), Ok(Parsed::Partial { needed: head.len() + 10, is_expecting: true }));
    }

    #[test]
    fn what_is_ambiguous_or_too_large_is_refused() {
        let status = |input: &[u8]| parse(input).map(drop).unwrap_err().0;
        let with = |header: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n").into_bytes();
        for header in [
            "Host: b",
            "Transfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: +1",
            "Content-Length: ",
            "Cookie: a\r\nCookie: b",
        ] {
            assert_eq!(status(&with(header)), Status::BadRequest, "{header}");
        }
        assert_eq!(status(&with("Content-Length: 262145")), Status::BodyTooLarge);
        assert_eq!(status(&with("Content-Length: 99999999999999999999999")), Status::BodyTooLarge);
        assert_eq!(status(&with(&"A: b\r\n".repeat(64))), Status::HeadTooLarge);
        assert_eq!(status(&[b"GET /", &[b'a'; HEAD_BYTES_MAX][..]].concat()), Status::HeadTooLarge);
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), Status::BadRequest);
        assert_eq!(status(b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), Status::BadRequest);
        assert_eq!(status(b"GET http://a?/ HTTP/1.1\r\nHost: a\r\n\r\n"), Status::BadRequest);
        assert_eq!(status(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Status::BadRequest);
        assert_eq!(status(&with("Expect: cake")), Status::ExpectationFailed);
        assert_eq!(status(b"*1\r\n$4\r\nPING\r\n"), Status::BadRequest);
    }

    #[test]
    fn a_field_is_found_by_its_name_and_decoded() {
        let form = b"key=a%2Bb+c%ff&namespace=&flag";
        assert_eq!(field(form, "key").unwrap().as_deref(), Some(&b"a+b c\xff"[..]));
        assert_eq!(field(form, "namespace").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(field(form, "flag").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(field(form, "ke"), Ok(None));
        assert!(field(b"key=%f", "key").is_err() && field(b"key=%zz", "key").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_a_refusal_or_too_few(
            parts in proptest::collection::vec(
                prop::sample::select(vec![
                    "GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.0\r\n", "Host: a\r\n", "Content-Length: 5\r\n", "\r\n",
                    "\0", "abcde", ": ",
                ]),
                0..12,
            ),
            noise in any::<Vec<u8>>(),
            at in any::<prop::sample::Index>(),
        ) {
            let mut input = parts.concat().into_bytes();
            let at = at.index(input.len() + 1);
            input.splice(at..at, noise);
            match parse(&input) {
                Ok(Parsed::Whole(_, bytes)) => prop_assert!(bytes > 0 && bytes <= input.len()),
                Ok(Parsed::Partial { needed, .. }) => {
                    prop_assert!(needed > input.len() && needed <= HEAD_BYTES_MAX + BODY_BYTES_MAX);
                }
                Err(_) => {}
            }
        }
    }
}
