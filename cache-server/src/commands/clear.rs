//! `clear`, `evict-tag` and `destroy`: what makes many keys go at once.

use std::os::unix::ffi::OsStrExt;

use cache_shm::{Cache, Error};
use serde_json::json;

use super::{Place, ask};
use crate::cli::{Clear, Destroy, EvictTag};
use crate::failure::Result;
use crate::output::Output;

pub(super) fn clear(place: Place, arguments: &Clear, output: &mut Output) -> Result<bool> {
    let (what, loss) = match &arguments.within.namespace {
        _ if arguments.all => ("all".to_owned(), "they lose every key".to_owned()),
        Some(namespace) => (namespace.clone(), format!("they lose every key of the namespace {namespace}")),
        None => (String::new(), "they lose every key outside of namespaces".to_owned()),
    };
    ask::may(place, &arguments.name, arguments.yes, &loss)?;
    let cache = place.change(&arguments.name, None)?;
    if arguments.all {
        cache.clear_all()?;
    } else {
        let Some(cache) = arguments.within.known(cache)? else { return Ok(false) };
        cache.clear()?;
    }
    if output.is_json() {
        output.json(&json!({"name": arguments.name, "cleared": what}))?;
    }
    Ok(true)
}

pub(super) fn evict_tag(place: Place, arguments: &EvictTag, output: &mut Output) -> Result<bool> {
    let Some(cache) = arguments.within.known(place.change(&arguments.name, None)?)? else { return Ok(false) };
    cache.evict_tag(arguments.tag.as_bytes())?;
    if output.is_json() {
        output.json(&json!({"name": arguments.name, "evicted": true}))?;
    }
    Ok(true)
}

pub(super) fn destroy(place: Place, arguments: &Destroy, output: &mut Output) -> Result<bool> {
    // What cannot be attached can still be destroyed, and what is not there is told below.
    ask::may_unseen(place, &arguments.name, arguments.yes, "they lose every key, and the region")?;
    let destroyed = match Cache::destroy_name(&arguments.name, place.dir) {
        Ok(()) => true,
        Err(Error::Missing { .. }) if arguments.missing_ok => false,
        Err(error) => return Err(error.into()),
    };
    if output.is_json() {
        output.json(&json!({"name": arguments.name, "destroyed": destroyed}))?;
    }
    Ok(true)
}
