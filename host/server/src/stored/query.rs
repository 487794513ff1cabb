//! The query strings of lists: `after`, `limit`, `order`, `model`, `metadata[KEY]`. What is unknown is ignored.

use axum::{extract::Query, http::Uri};

use crate::{
    error::ApiError,
    keep::{Listing, Paging},
};

/// As the OpenAI API has it.
const LIMIT: usize = 20;
/// 100 completions of a megabyte are as much as one answer should be.
const LIMIT_MAX: usize = 100;
/// As many as a completion can have.
const METADATA_MAX: usize = 16;

pub(super) fn listing(uri: &Uri) -> Result<Listing, ApiError> {
    let mut listing = Listing { paging: paging(uri)?, ..Listing::default() };
    for (name, value) in pairs(uri)? {
        if name == "model" {
            listing.model = Some(value).filter(|it| !it.is_empty());
        } else if let Some(key) = name.strip_prefix("metadata[").and_then(|it| it.strip_suffix(']'))
        {
            listing.metadata.push((key.to_owned(), value));
        }
    }
    if listing.metadata.len() > METADATA_MAX {
        return Err(ApiError::invalid("metadata", format!("may hold {METADATA_MAX} pairs")));
    }
    Ok(listing)
}

pub(super) fn paging(uri: &Uri) -> Result<Paging, ApiError> {
    let mut paging = Paging { limit: LIMIT, ..Paging::default() };
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "after" => paging.after = Some(value).filter(|it| !it.is_empty()),
            "limit" => {
                let number = value.parse::<usize>().ok().filter(|it| *it <= LIMIT_MAX);
                paging.limit = number.ok_or_else(|| {
                    let reason = format!("must be an integer from 0 to {LIMIT_MAX}");
                    ApiError::invalid("limit", reason)
                })?;
            }
            "order" => {
                paging.descending = match value.as_str() {
                    "asc" => false,
                    "desc" => true,
                    _ => return Err(ApiError::invalid("order", "must be asc or desc")),
                };
            }
            _ => {}
        }
    }
    Ok(paging)
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let Query(pairs) =
        Query::try_from_uri(uri).map_err(|error| ApiError::BadQuery(error.to_string()))?;
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_understood_or_refused_by_its_parameter() {
        let check = |query: &str, want: Result<Listing, &str>| {
            let uri: Uri = format!("/v1/chat/completions?{query}").parse().unwrap();
            let got = listing(&uri);
            let got = got.map_err(|it| it.body()["error"]["param"].as_str().unwrap().to_owned());
            assert_eq!(got, want.map_err(str::to_owned), "{query}");
        };
        let all =
            Listing { paging: Paging { limit: 20, ..Paging::default() }, ..Listing::default() };
        check("", Ok(all.clone()));
        check("after=&model=&order=asc&limit=20&other=1", Ok(all.clone()));
        let paging = Paging { after: Some("a b".to_owned()), limit: 0, descending: true };
        check(
            "after=a%20b&limit=0&order=desc&model=m&metadata[k]=v&metadata%5Bl%5D=",
            Ok(Listing {
                paging,
                model: Some("m".to_owned()),
                metadata: vec![("k".to_owned(), "v".to_owned()), ("l".to_owned(), String::new())],
            }),
        );
        check("limit=101", Err("limit"));
        check("limit=-1", Err("limit"));
        check("limit=x", Err("limit"));
        check("order=up", Err("order"));
        check(&"metadata[k]=v&".repeat(17), Err("metadata"));
    }
}
