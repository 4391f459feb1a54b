//! The sections `[serve]` and `[serve.NAME]` of the file, as they are written there.
//!
//! Owns: where the server's options stand. What they mean the server knows, and checks;
//! other programs look past them.

use std::path::Path;

use cache_core::Result;
use toml::de::{DeTable, DeValue};

use super::{choose_file, entries, place_in, read_file, scalar};

/// The sections of the server, which are none of a region's.
pub(super) const SERVER_SECTION: &str = "serve";
/// What the variables of the server's options begin with.
pub const SERVER_VARIABLE_PREFIX: &str = "CACHE_SHM_SERVE_";

/// An option of the server in the file, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOption {
    /// The region of `[serve.NAME]`; `None` in `[serve]`, which is for all.
    pub region: Option<String>,
    /// The option.
    pub key: String,
    /// Its texts: one, or those of a list; `None` if one of them is no string, number or truth value.
    pub texts: Option<Vec<String>>,
    /// Whether it is a list.
    pub is_list: bool,
    /// The file, the line and the section.
    pub place: String,
}

/// The server's sections of the file that [`super::Settings::read`] reads, those of other
/// regions among them, for the server to check.
///
/// # Errors
/// As for [`super::Settings::read`].
pub fn server_options() -> Result<Vec<ServerOption>> {
    let Some(path) = choose_file(&|variable| std::env::var_os(variable))? else { return Ok(Vec::new()) };
    server_entries(&path, &read_file(&path)?)
}

fn server_entries(path: &Path, bytes: &[u8]) -> Result<Vec<ServerOption>> {
    // The whole file is checked first.
    entries(path, bytes)?;
    let table = std::str::from_utf8(bytes).ok().and_then(|text| DeTable::parse(text).ok());
    let Some(table) = table else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (section, content) in table.get_ref() {
        if let (SERVER_SECTION, DeValue::Table(options)) = (section.get_ref().as_ref(), content.get_ref()) {
            take_section(path, bytes, options, None, &mut found);
        }
    }
    Ok(found)
}

fn take_section(path: &Path, bytes: &[u8], options: &DeTable<'_>, region: Option<&str>, found: &mut Vec<ServerOption>) {
    let section = region.map_or_else(|| "[serve]".to_owned(), |name| format!("[serve.{name}]"));
    for (key, value) in options {
        if let (None, DeValue::Table(of_region)) = (region, value.get_ref()) {
            take_section(path, bytes, of_region, Some(key.get_ref()), found);
            continue;
        }
        let (texts, is_list) = match value.get_ref() {
            DeValue::Array(values) => (values.iter().map(scalar).collect::<Option<Vec<_>>>(), true),
            _ => (scalar(value).map(|text| vec![text]), false),
        };
        found.push(ServerOption {
            region: region.map(str::to_owned),
            key: key.get_ref().to_string(),
            texts: texts.map(|texts| texts.into_iter().map(Into::into).collect()),
            is_list,
            place: format!("{} {section}", place_in(path, bytes, key.span().start)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_all_servers_and_of_one_are_told_apart() {
        let text =
            "[serve]\nthreads = 2\nbind = ['a', 'b']\n[serve.users]\nauth = false\n[serve.\"/x/y\"]\nbad = [[1]]\n";
        let found = server_entries(Path::new("c.toml"), text.as_bytes()).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|option| (option.region.as_deref(), &*option.key, option.texts.clone(), &*option.place))
            .collect();
        let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
        for wanted in [
            (None, "threads", texts(&["2"]), "c.toml:2 [serve]"),
            (None, "bind", texts(&["a", "b"]), "c.toml:3 [serve]"),
            (Some("users"), "auth", texts(&["false"]), "c.toml:5 [serve.users]"),
            (Some("/x/y"), "bad", None, "c.toml:7 [serve./x/y]"),
        ] {
            assert!(shown.contains(&wanted), "{shown:?}");
        }
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|option| option.is_list == ["bind", "bad"].contains(&&*option.key)));
    }
}
