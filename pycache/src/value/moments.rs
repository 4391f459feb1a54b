//! Dates, times and time zones, packed into bytes.
//!
//! ```text
//! date        4 bytes   year 16, month 8, day 8
//! time        6 bytes   fold 1 + hour 7, minute 8, second 8, microsecond 24
//! datetime   10 bytes   date, time
//! timedelta  array      days, seconds, microseconds, normalised as Python does
//! zone                  integer: seconds east of UTC | timedelta: the same, finer
//!                       [integer or timedelta, text]: the same with a name
//!                       text: a key of the IANA database
//! ```
//! All numbers big-endian, as in all of CBOR.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyString, PyTime, PyTimeAccess, PyTuple, PyTzInfo,
    PyTzInfoAccess,
};

use super::cbor::{self, Reader, Reason, put_head};
use super::decode::Failure;
use super::{Types, encode};
use crate::errors;

const DATE_BYTES: usize = 4;
const TIME_BYTES: usize = 6;
const DAY_SECONDS: i32 = 86_400;
/// Longest key of the IANA database that is believed.
const ZONE_KEY_BYTES_MAX: u64 = 64;
const ZONE_WANTED: &str = "give the datetime a datetime.timezone or a zoneinfo.ZoneInfo with a key, or open the cache with serializer=\"pickle\"";

fn date_bytes(date: &impl PyDateAccess) -> [u8; DATE_BYTES] {
    let year = (date.get_year() as u16).to_be_bytes();
    [year[0], year[1], date.get_month(), date.get_day()]
}

fn time_bytes(time: &impl PyTimeAccess) -> [u8; TIME_BYTES] {
    let micro = time.get_microsecond().to_be_bytes();
    let fold = u8::from(time.get_fold()) << 7;
    [fold | time.get_hour(), time.get_minute(), time.get_second(), micro[1], micro[2], micro[3]]
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_head(out, cbor::BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_integer(out: &mut Vec<u8>, number: i64) {
    match u64::try_from(number) {
        Ok(number) => put_head(out, cbor::UNSIGNED, number),
        Err(_) => put_head(out, cbor::NEGATIVE, !number as u64),
    }
}

pub(crate) fn put_date(out: &mut Vec<u8>, date: &Bound<'_, PyDate>) {
    put_head(out, cbor::TAG, cbor::TAG_DATE);
    put_bytes(out, &date_bytes(date));
}

pub(crate) fn put_time(out: &mut Vec<u8>, time: &Bound<'_, PyTime>) -> PyResult<()> {
    put_head(out, cbor::TAG, cbor::TAG_TIME);
    put_zoned(out, &time_bytes(time), time.get_tzinfo())
}

pub(crate) fn put_datetime(out: &mut Vec<u8>, moment: &Bound<'_, PyDateTime>) -> PyResult<()> {
    put_head(out, cbor::TAG, cbor::TAG_DATETIME);
    let mut bytes = [0; DATE_BYTES + TIME_BYTES];
    bytes[..DATE_BYTES].copy_from_slice(&date_bytes(moment));
    bytes[DATE_BYTES..].copy_from_slice(&time_bytes(moment));
    put_zoned(out, &bytes, moment.get_tzinfo())
}

pub(crate) fn put_delta(out: &mut Vec<u8>, delta: &Bound<'_, PyDelta>) {
    put_head(out, cbor::TAG, cbor::TAG_TIMEDELTA);
    put_head(out, cbor::ARRAY, 3);
    for number in [delta.get_days(), delta.get_seconds(), delta.get_microseconds()] {
        put_integer(out, i64::from(number));
    }
}

fn put_zoned(out: &mut Vec<u8>, bytes: &[u8], zone: Option<Bound<'_, PyTzInfo>>) -> PyResult<()> {
    let Some(zone) = zone else {
        put_bytes(out, bytes);
        return Ok(());
    };
    put_head(out, cbor::ARRAY, 2);
    put_bytes(out, bytes);
    let py = zone.py();
    if zone.is(&*PyTzInfo::utc(py)?) {
        put_integer(out, 0);
        return Ok(());
    }
    let types = Types::get(py)?;
    let class = zone.get_type();
    if class.is(types.timezone.bind(py)) {
        let arguments = zone.call_method0(intern!(py, "__getinitargs__"))?.cast_into::<PyTuple>()?;
        let offset = arguments.get_item(0)?.cast_into::<PyDelta>()?;
        if arguments.len() == 2 {
            put_head(out, cbor::ARRAY, 2);
            put_offset(out, &offset);
            return put_text(out, &arguments.get_item(1)?.cast_into::<PyString>()?);
        }
        put_offset(out, &offset);
        return Ok(());
    }
    if class.is(types.zone_info.bind(py))
        && let Ok(key) = zone.getattr(intern!(py, "key"))?.cast_into::<PyString>()
    {
        return put_text(out, &key);
    }
    Err(errors::unsupported(&zone, ZONE_WANTED))
}

fn put_offset(out: &mut Vec<u8>, offset: &Bound<'_, PyDelta>) {
    if offset.get_microseconds() == 0 {
        put_integer(out, i64::from(offset.get_days()) * 86_400 + i64::from(offset.get_seconds()));
    } else {
        put_delta(out, offset);
    }
}

fn put_text(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> PyResult<()> {
    let utf8 = encode::utf8(text)?;
    let bytes = match &utf8 {
        encode::Utf8::Borrowed(bytes) => bytes,
        encode::Utf8::Owned(bytes) => bytes.as_bytes(),
    };
    put_head(out, cbor::TEXT, bytes.len() as u64);
    out.extend_from_slice(bytes);
    Ok(())
}

/// Year, month and day; the caller lets Python check their ranges.
fn date_parts(bytes: &[u8]) -> (i32, u8, u8) {
    (i32::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes[2], bytes[3])
}

/// Hour, minute, second, microsecond and fold.
fn time_parts(bytes: &[u8]) -> (u8, u8, u8, u32, bool) {
    let micro = u32::from_be_bytes([0, bytes[3], bytes[4], bytes[5]]);
    (bytes[0] & 0x7f, bytes[1], bytes[2], micro, bytes[0] & 0x80 != 0)
}

const WRONG_MOMENT: Reason = "not a date or time";

/// A byte string of exactly `count` bytes, alone or in an array with a zone.
fn zoned<'a, 'py>(
    py: Python<'py>,
    reader: &mut Reader<'a>,
    count: usize,
) -> Result<(&'a [u8], Option<Bound<'py, PyTzInfo>>), Failure> {
    let head = reader.head()?;
    let aware = head.major == cbor::ARRAY && head.argument == 2;
    let bytes_head = if aware { reader.head()? } else { head };
    if bytes_head.major != cbor::BYTES || bytes_head.argument != count as u64 {
        return Err(WRONG_MOMENT.into());
    }
    let bytes = reader.take(count as u64)?;
    let zone = if aware { Some(zone(py, reader)?) } else { None };
    Ok((bytes, zone))
}

pub(crate) fn datetime<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyAny>, Failure> {
    let (bytes, zone) = zoned(py, reader, DATE_BYTES + TIME_BYTES)?;
    let (year, month, day) = date_parts(bytes);
    let (hour, minute, second, micro, fold) = time_parts(&bytes[DATE_BYTES..]);
    let zone = zone.as_ref();
    PyDateTime::new_with_fold(py, year, month, day, hour, minute, second, micro, zone, fold)
        .map(Bound::into_any)
        .map_err(|_| WRONG_MOMENT.into())
}

pub(crate) fn time<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyAny>, Failure> {
    let (bytes, zone) = zoned(py, reader, TIME_BYTES)?;
    let (hour, minute, second, micro, fold) = time_parts(bytes);
    PyTime::new_with_fold(py, hour, minute, second, micro, zone.as_ref(), fold)
        .map(Bound::into_any)
        .map_err(|_| WRONG_MOMENT.into())
}

pub(crate) fn date<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyAny>, Failure> {
    if reader.expect(cbor::BYTES, WRONG_MOMENT)? != DATE_BYTES as u64 {
        return Err(WRONG_MOMENT.into());
    }
    let (year, month, day) = date_parts(reader.take(DATE_BYTES as u64)?);
    PyDate::new(py, year, month, day).map(Bound::into_any).map_err(|_| WRONG_MOMENT.into())
}

pub(crate) fn delta<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyDelta>, Failure> {
    const WRONG: Reason = "not a time span";
    if reader.expect(cbor::ARRAY, WRONG)? != 3 {
        return Err(WRONG.into());
    }
    let mut numbers = [0i32; 3];
    for number in &mut numbers {
        *number = i32::try_from(reader.integer(WRONG)?).map_err(|_| WRONG)?;
    }
    let [days, seconds, micro] = numbers;
    if !(0..DAY_SECONDS).contains(&seconds) || !(0..1_000_000).contains(&micro) {
        return Err(WRONG.into());
    }
    PyDelta::new(py, days, seconds, micro, true).map_err(|_| WRONG.into())
}

fn zone<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyTzInfo>, Failure> {
    const WRONG: Reason = "not a time zone";
    let major = reader.peek().ok_or("it ends too early")? >> 5;
    let types = Types::get(py)?;
    let made = match major {
        cbor::TEXT => {
            let key = key_text(py, reader)?;
            types.zone_info.bind(py).call1((key,))
        }
        cbor::ARRAY => {
            if reader.expect(cbor::ARRAY, WRONG)? != 2 {
                return Err(WRONG.into());
            }
            let offset = zone_offset(py, reader)?;
            let count = reader.expect(cbor::TEXT, WRONG)?;
            let name = PyString::from_bytes(py, reader.take(count)?).map_err(|_| WRONG)?;
            types.timezone.bind(py).call1((offset, name))
        }
        _ => {
            let offset = zone_offset(py, reader)?;
            types.timezone.bind(py).call1((offset,))
        }
    };
    let zone = made.map_err(|_| "a time zone that does not exist here")?;
    zone.cast_into::<PyTzInfo>().map_err(|_| WRONG.into())
}

/// A key of the IANA database: letters, digits and a few signs, so that it names nothing else.
fn key_text<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyString>, Failure> {
    const WRONG: Reason = "not the name of a time zone";
    let count = reader.expect(cbor::TEXT, WRONG)?;
    let bytes = reader.take(count)?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-/".contains(byte);
    if count == 0 || count > ZONE_KEY_BYTES_MAX || bytes[0] == b'/' || !bytes.iter().all(allowed) {
        return Err(WRONG.into());
    }
    PyString::from_bytes(py, bytes).map_err(|_| WRONG.into())
}

fn zone_offset<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyDelta>, Failure> {
    const WRONG: Reason = "not an offset from UTC";
    if reader.peek().is_some_and(|first| first >> 5 == cbor::TAG) {
        if reader.expect(cbor::TAG, WRONG)? != cbor::TAG_TIMEDELTA {
            return Err(WRONG.into());
        }
        return delta(py, reader);
    }
    let seconds = i32::try_from(reader.integer(WRONG)?).map_err(|_| WRONG)?;
    PyDelta::new(py, seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS), 0, true)
        .map_err(|_| WRONG.into())
}
