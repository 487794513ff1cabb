//! JSON as Python writes it, since templates were made for Python's `json.dumps`: a space after commas and colons, and no
//! HTML in it.

use std::io;

use minijinja::{Error, ErrorKind, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// More spaces than anybody indents by.
const INDENT_MAX: usize = 16;

/// The filter `tojson`. `ensure_ascii`, `separators` and `sort_keys` are taken and ignored.
pub(super) fn filter(value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let indent = arguments.get::<Option<usize>>("indent")?;
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        let _ = arguments.get::<Option<Value>>(ignored)?;
    }
    arguments.assert_all_used()?;
    let text = match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent.min(INDENT_MAX));
            write(value, PrettyFormatter::with_indent(spaces.as_bytes()))
        }
        None => write(value, Spaced),
    };
    let text = text.map_err(|it| Error::new(ErrorKind::BadSerialization, it.to_string()))?;
    Ok(Value::from_safe_string(text))
}

/// As `json.dumps` writes it in one line.
pub(crate) fn line(value: &serde_json::Value) -> String {
    write(value, Spaced).unwrap_or_default()
}

fn write(value: &impl Serialize, formatter: impl Formatter) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    // The serializer writes UTF-8 and nothing else.
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}
