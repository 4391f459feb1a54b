//! Answers of HTTP.
//!
//! Owns: the status lines, and the headers that every answer has: its length and time, that nobody keeps
//! it, and that a browser runs and shows nothing but what this server sent as such.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

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
        let date = date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        // A vector takes everything.
        let _ = write!(
            output,
            "HTTP/1.1 {line}\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\
             {ALWAYS}{headers}\r\n"
        );
        if !is_head {
            output.extend_from_slice(&self.body);
        }
    }
}

/// A time of day as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(unix_seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (name, month, day) = (DAYS[(days % 7) as usize], MONTHS[month], day + 1);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{name}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
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
    fn times_are_written_as_http_wants_them() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

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
