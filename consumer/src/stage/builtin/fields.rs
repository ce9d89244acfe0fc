//! Single fields of JSON objects, without reading the rest into memory.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::Item;
use super::shown;
use crate::handler::Failure;

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Fields<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, &'de str)> Visitor<'de> for Fields<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            (self.0)(name, value.get());
        }
        Ok(())
    }
}

/// Calls `take` with name and JSON of each field.
pub(super) fn each<'a>(item: Item<'a>, take: impl FnMut(Cow<'a, str>, &'a str)) -> Result<(), Failure> {
    let no_object = || Failure::fatal(format!("no object: {}", shown(item)));
    let Item::Json(json) = item else {
        return Err(no_object());
    };
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Fields(take)).map_err(|_| no_object())
}

/// The JSON of a field that must be there; item `number` is for the message.
pub(super) fn of<'a>(number: u64, item: Item<'a>, name: &str) -> Result<Item<'a>, Failure> {
    maybe(number, item, name)?.ok_or_else(|| {
        let item = shown(item);
        Failure::fatal(format!("item {number} has no field \"{name}\": {item}"))
    })
}

/// The JSON of a field; `None` if it is missing or null.
pub(super) fn maybe<'a>(number: u64, item: Item<'a>, name: &str) -> Result<Option<Item<'a>>, Failure> {
    let mut found = None;
    each(item, |other, json| {
        if other == name {
            found = Some(Item::Json(json));
        }
    })
    .map_err(|failure| Failure::fatal(format!("item {number} is {}", failure.message)))?;
    Ok(found.filter(|item| !matches!(item, Item::Json("null"))))
}
