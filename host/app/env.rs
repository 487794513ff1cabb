//! Variables: those of the process, and those of a `.env` file, which the process's own win over.

use std::{collections::HashMap, io, path::Path};

/// Variables by name.
#[derive(Clone, Debug, Default)]
pub struct Vars(HashMap<String, String>);

impl Vars {
    /// The process's variables, and those of `.env` in `folder` if there is one.
    ///
    /// # Errors
    /// When there is a `.env` that cannot be read; the error names the line's content only by its position.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let path = folder.join(".env");
        let mut vars = HashMap::new();
        if path.is_file() {
            let file = dotenvy::from_path_iter(&path).map_err(|it| invalid(&it))?;
            for pair in file {
                let (name, value) = pair.map_err(|it| invalid(&it))?;
                vars.insert(name, value);
            }
        }
        let process = std::env::vars_os();
        vars.extend(
            process.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        );
        Ok(Self(vars))
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|it| !it.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Vars {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
    }
}

/// A `.env` holds secrets: its text is not repeated.
fn invalid(error: &dotenvy::Error) -> io::Error {
    let what = match error {
        dotenvy::Error::LineParse(_, at) => {
            format!("a line is not NAME=value (at byte {at} of it)")
        }
        dotenvy::Error::Io(it) => it.to_string(),
        _ => "it is not a list of NAME=value lines".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, format!(".env: {what}"))
}
