//! Standard output and standard error, and how keys, values and numbers look on them.
//!
//! Owns: buffering, the closed pipe (which ends the command quietly), and the text and
//! JSON forms of bytes. Must never: panic because somebody stopped reading.

use std::io::{self, BufWriter, IsTerminal, Write};

use base64::Engine;
use cache_shm::kind;
use serde_json::{Map, Value};

use crate::failure::{Failure, Result};

/// Where answers go.
pub struct Output {
    stream: BufWriter<io::Stdout>,
    json: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("json", &self.json).finish_non_exhaustive()
    }
}

fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::file("write to", "standard output".as_ref(), &error),
    }
}

impl Output {
    /// Standard output, as text or as JSON.
    pub fn stdout(json: bool) -> Output {
        Output { stream: BufWriter::with_capacity(1 << 16, io::stdout()), json }
    }

    /// The answer is wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A person reads the output.
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The output is closed, or cannot take them.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(closed)
    }

    /// Writes a line of text.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a JSON value on a line of its own.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn json(&mut self, value: &Value) -> Result<()> {
        self.line(&value.to_string())
    }

    /// Writes names and values in two aligned columns.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn pairs(&mut self, pairs: &[(&str, String)]) -> Result<()> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs {
            self.line(&format!("{name:width$}  {value}"))?;
        }
        Ok(())
    }

    /// Everything written so far reaches the reader.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn flush(&mut self) -> Result<()> {
        self.stream.flush().map_err(closed)
    }
}

/// Says on standard error why the command failed.
pub fn complain(failure: &Failure, json: bool) {
    if matches!(failure, Failure::OutputClosed) {
        return;
    }
    complain_raw(&if json { format!("{}\n", failure.json()) } else { format!("cache-shm: {failure}\n") });
}

/// Says something beside the answer, on standard error.
pub fn remark(text: &str) {
    complain_raw(&format!("cache-shm: {text}\n"));
}

/// Writes to standard error; a closed one has no reader to tell.
pub fn complain_raw(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Bytes as text on one line: printable UTF-8 as it is, the rest as `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => c.to_string().bytes().for_each(|b| text.push_str(&format!("\\x{b:02x}"))),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| text.push_str(&format!("\\x{b:02x}")));
    }
    text
}

/// Adds `bytes` to a JSON object: as `name` if they are text, else as `name_base64`.
pub fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => {
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            object.insert(format!("{name}_base64"), encoded.into())
        }
    };
}

/// The word for a kind of value.
pub fn kind_word(number: u8) -> String {
    let word = match number {
        kind::BYTES => "bytes",
        kind::INT => "int",
        kind::STR => "str",
        kind::FLOAT => "float",
        kind::NONE => "none",
        kind::FALSE | kind::TRUE => "bool",
        kind::TAGGED => "tagged",
        kind::BYTEARRAY => "bytearray",
        kind::ARRAY => "array",
        kind::ARROW => "arrow",
        kind::ARROW_BATCH => "arrow_batch",
        kind::PICKLE => "pickle",
        kind::JSON => "json",
        kind::MSGPACK => "msgpack",
        kind::NAMED => "named",
        kind::COMPRESSED => "compressed",
        kind::SIGNED => "signed",
        other => return format!("kind-{other}"),
    };
    word.to_owned()
}

/// A value as bytes for people and scripts: the digits of numbers, the words of
/// constants, and everything else as it is stored.
pub fn value_bytes(number: u8, stored: &[u8]) -> Vec<u8> {
    match (number, <[u8; 8]>::try_from(stored)) {
        (kind::INT, Ok(bytes)) => i64::from_le_bytes(bytes).to_string().into_bytes(),
        (kind::FLOAT, Ok(bytes)) => f64::from_le_bytes(bytes).to_string().into_bytes(),
        (kind::NONE, _) => b"None".to_vec(),
        (kind::FALSE, _) => b"False".to_vec(),
        (kind::TRUE, _) => b"True".to_vec(),
        _ => stored.to_vec(),
    }
}

/// Adds a value to a JSON object under `value`, or `value_base64` if it is not text.
pub fn insert_value(object: &mut Map<String, Value>, number: u8, stored: &[u8]) {
    let value = match (number, <[u8; 8]>::try_from(stored)) {
        (kind::INT, Ok(bytes)) => i64::from_le_bytes(bytes).into(),
        // JSON has no infinity and no NaN: these go as text.
        (kind::FLOAT, Ok(bytes)) => match serde_json::Number::from_f64(f64::from_le_bytes(bytes)) {
            Some(number) => Value::Number(number),
            None => f64::from_le_bytes(bytes).to_string().into(),
        },
        (kind::NONE, _) => Value::Null,
        (kind::FALSE, _) => false.into(),
        (kind::TRUE, _) => true.into(),
        _ => return insert_bytes(object, "value", stored),
    };
    object.insert("value".to_owned(), value);
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `64.0 MiB (67,108,864 bytes)`, or plain bytes below a KiB.
pub fn sized(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = bytes as f64 / 1024.0;
    if amount < 1.0 {
        return format!("{bytes} bytes");
    }
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {} ({} bytes)", UNITS[unit], grouped(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_on_one_line_whatever_they_hold() {
        assert_eq!(printable("grün:7".as_bytes()), "grün:7");
        assert_eq!(printable(b"a\nb\x00\\\xff"), "a\\x0ab\\x00\\\\\\xff");
        assert_eq!(printable("\u{9b}".as_bytes()), "\\xc2\\x9b");
    }

    #[test]
    fn values_of_each_kind_have_a_text_and_a_json_form() {
        let cases: [(u8, Vec<u8>, &[u8], Value); 8] = [
            (kind::STR, b"Ada".to_vec(), b"Ada", "Ada".into()),
            (kind::BYTES, b"Ada".to_vec(), b"Ada", "Ada".into()),
            (kind::INT, (-17i64).to_le_bytes().to_vec(), b"-17", (-17).into()),
            (kind::FLOAT, 1.5f64.to_le_bytes().to_vec(), b"1.5", 1.5.into()),
            (kind::FLOAT, f64::INFINITY.to_le_bytes().to_vec(), b"inf", "inf".into()),
            (kind::NONE, vec![], b"None", Value::Null),
            (kind::TRUE, vec![], b"True", true.into()),
            // Damaged: an integer is 8 bytes. It is shown as it is.
            (kind::INT, b"12".to_vec(), b"12", "12".into()),
        ];
        for (number, stored, text, json) in cases {
            assert_eq!(value_bytes(number, &stored), text);
            let mut object = Map::new();
            insert_value(&mut object, number, &stored);
            assert_eq!(object["value"], json);
        }
        let mut object = Map::new();
        insert_value(&mut object, kind::BYTES, b"\xff\x00");
        assert_eq!(object["value_base64"], "/wA=");
        assert!(!object.contains_key("value"));
    }

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(sized(17), "17 bytes");
        assert_eq!(sized(64 << 20), "64.0 MiB (67,108,864 bytes)");
        assert_eq!(sized(1 << 30), "1.0 GiB (1,073,741,824 bytes)");
    }
}
