//! Answers of HTTP.
//!
//! Owns: the status lines, and the headers that every answer has: its length, that nobody keeps
//! it, and that a browser runs and shows nothing but what this server sent as such.

use std::io::Write;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 200
    Ok,
    /// 303
    SeeOther,
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 413
    BodyTooLarge,
    /// 417
    ExpectationFailed,
    /// 431
    HeadTooLarge,
    /// 503
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::SeeOther => "303 See Other",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::BodyTooLarge => "413 Content Too Large",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const ALWAYS: &str = "\
Cache-Control: no-store\r\n\
X-Content-Type-Options: nosniff\r\n\
Referrer-Policy: no-referrer\r\n\
Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
Cross-Origin-Resource-Policy: same-origin\r\n\
Cross-Origin-Opener-Policy: same-origin\r\n";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What became of the request.
    pub status: Status,
    kind: &'static str,
    /// Further headers, each with the end of its line.
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    /// What was asked for, as this kind of content.
    pub fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status: Status::Ok, kind, headers: String::new(), body: body.into() }
    }

    /// What was asked for, as JSON.
    pub fn json(body: impl Into<Vec<u8>>) -> Answer {
        Answer::new("application/json", body)
    }

    /// Plain words.
    pub fn text(status: Status, words: &str) -> Answer {
        Answer { status, ..Answer::new(TEXT, format!("{words}\n")) }
    }

    /// With another header. Its value is ours: nothing of a request goes into it unchecked.
    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Writes the answer; without its body if only the head was asked for.
    pub fn write(&self, output: &mut Vec<u8>, is_head: bool, is_kept: bool) {
        let connection = if is_kept { "keep-alive" } else { "close" };
        let (line, kind, length, headers) = (self.status.line(), self.kind, self.body.len(), &self.headers);
        // A vector takes everything.
        let _ = write!(
            output,
            "HTTP/1.1 {line}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\
             {ALWAYS}{headers}\r\n"
        );
        if !is_head {
            output.extend_from_slice(&self.body);
        }
    }
}

impl From<super::request::Refused> for Answer {
    fn from((status, words): super::request::Refused) -> Answer {
        Answer::text(status, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_its_length_and_that_nothing_else_may_run() {
        let mut output = Vec::new();
        Answer::text(Status::NotFound, "nothing").with("Allow", "GET").write(&mut output, false, true);
        let text = String::from_utf8(output).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n") && body == "nothing\n", "{text}");
        for header in ["Content-Length: 8", "X-Content-Type-Options: nosniff", "Cache-Control: no-store", "Allow: GET"]
        {
            assert!(head.split("\r\n").any(|line| line == header), "{header} in {head}");
        }
        let mut output = Vec::new();
        Answer::json("{}").write(&mut output, true, false);
        let text = String::from_utf8(output).unwrap();
        assert!(
            text.contains("Content-Length: 2\r\n") && text.contains("Connection: close") && text.ends_with("\r\n\r\n")
        );
    }
}
