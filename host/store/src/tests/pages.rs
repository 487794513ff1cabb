//! Pages: whole while others write, and put together the list.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use proptest::prelude::*;

use super::{Draft, MIB, Scene, ids, pair, update};
use crate::{Listing, Order, Paging, StoreError};

/// A failure ends the readers too.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn pages_are_whole_while_others_write() {
    let mut scene = Scene::new(64 * MIB);
    let over = AtomicBool::new(false);
    let store = scene.store.clone();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !over.load(Relaxed) {
                        let paging = Paging { limit: 100, order: Order::Descending, after: None };
                        let page = store.list(&Listing { paging, ..Listing::default() }).unwrap();
                        for it in &page.data {
                            let id = it["id"].as_str().unwrap();
                            assert_eq!(it["metadata"]["id"], id);
                            let paging = Paging { limit: 10, ..Paging::default() };
                            let messages = store.messages(id, &paging).unwrap();
                            assert_eq!(messages.map_or(2, |it| it.data.len()), 2);
                        }
                        seen += page.data.len();
                    }
                    seen
                })
            })
            .collect();
        let ends = Ends(&over);
        for it in 0..200 {
            let id = format!("c{it}");
            let messages = vec![("user", vec![Some("x".to_owned())]); 2];
            let metadata = vec![pair("id", &id)];
            scene.send(&Draft { messages, metadata, ..Draft::new(&id, "") });
            if it % 10 == 9 {
                scene.settle();
                scene.store.delete(&format!("c{}", it - 5)).unwrap();
            }
        }
        drop(ends);
        let seen: usize = readers.into_iter().map(|it| it.join().unwrap()).sum();
        assert!(seen > 0);
    });
    assert_eq!(scene.ids().len(), 180);
}

/// What somebody does with a store.
#[derive(Clone, Debug)]
enum Deed {
    Store { created: i64, model: bool, tag: u8 },
    Delete(prop::sample::Index),
    Tag(prop::sample::Index, u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..6_i64, any::<bool>(), 0..3_u8)
            .prop_map(|(created, model, tag)| Deed::Store { created, model, tag }),
        1 => any::<prop::sample::Index>().prop_map(Deed::Delete),
        1 => (any::<prop::sample::Index>(), 0..3_u8).prop_map(|(at, tag)| Deed::Tag(at, tag)),
    ]
}

/// What a listing has to look at.
#[derive(Clone, Debug)]
struct Known {
    created: i64,
    model: &'static str,
    tag: u8,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_put_together_are_the_list(
        deeds in prop::collection::vec(deed(), 1..60),
        limit in 1..7_usize,
        descending in any::<bool>(),
        model in prop::option::of(any::<bool>()),
        tag in prop::option::of(0..3_u8),
    ) {
        let name = |it: bool| if it { "one" } else { "two" };
        let mut scene = Scene::new(16 * MIB);
        // By number, in the order of arrival.
        let mut all: BTreeMap<i64, Known> = BTreeMap::new();
        let mut next = 0_i64;
        for deed in deeds {
            let pick = |at: prop::sample::Index| {
                let keys: Vec<i64> = all.keys().copied().collect();
                (!keys.is_empty()).then(|| *at.get(&keys))
            };
            match deed {
                Deed::Store { created, model, tag } => {
                    let model = name(model);
                    let mut draft = Draft::new(&format!("c{next}"), "x");
                    (draft.created, draft.model) = (created, model.to_owned());
                    draft.metadata = vec![pair("tag", &tag.to_string()), pair("other", "x")];
                    scene.send(&draft);
                    all.insert(next, Known { created, model, tag });
                    next += 1;
                }
                Deed::Delete(at) => {
                    let Some(key) = pick(at) else { continue };
                    all.remove(&key);
                    let gone = scene.store.delete(&format!("c{key}")).unwrap();
                    prop_assert!(gone);
                }
                Deed::Tag(at, tag) => {
                    let Some(key) = pick(at) else { continue };
                    scene.settle();
                    let row = scene.store.get(&format!("c{key}")).unwrap().unwrap().row;
                    scene.batch += 1;
                    scene.chain.run(update(scene.batch, row, &[pair("tag", &tag.to_string())]));
                    all.get_mut(&key).unwrap().tag = tag;
                }
            }
        }
        scene.settle();
        let fits = |it: &Known| {
            model.is_none_or(|model| it.model == name(model)) && tag.is_none_or(|tag| it.tag == tag)
        };
        let mut want: Vec<(i64, i64)> =
            all.iter().filter(|(_, it)| fits(it)).map(|(key, it)| (it.created, *key)).collect();
        want.sort_unstable();
        if descending {
            want.reverse();
        }
        let want: Vec<String> = want.iter().map(|(_, key)| format!("c{key}")).collect();

        let order = if descending { Order::Descending } else { Order::Ascending };
        let mut listing = Listing {
            paging: Paging { after: None, limit, order },
            model: model.map(|it| name(it).to_owned()),
            metadata: tag.map(|it| pair("tag", &it.to_string())).into_iter().collect(),
        };
        let mut got = Vec::new();
        loop {
            let page = scene.store.list(&listing).unwrap();
            prop_assert!(page.data.len() <= limit);
            got.extend(ids(&page));
            if !page.has_more {
                break;
            }
            prop_assert_eq!(page.data.len(), limit);
            listing.paging.after = got.last().cloned();
        }
        prop_assert_eq!(got, want);
        listing.paging.after = Some("nobody".to_owned());
        prop_assert!(matches!(scene.store.list(&listing), Err(StoreError::UnknownCursor)));
    }

    #[test]
    fn pages_of_messages_put_together_are_all_messages(
        count in 1..30_usize,
        limit in 1..12_usize,
        descending in any::<bool>(),
    ) {
        let mut scene = Scene::new(MIB);
        let messages = (0..count).map(|it| ("user", vec![Some(it.to_string())])).collect();
        scene.send(&Draft { messages, ..Draft::new("c", "") });
        scene.settle();
        let order = if descending { Order::Descending } else { Order::Ascending };
        let mut paging = Paging { after: None, limit, order };
        let mut got = Vec::new();
        loop {
            let page = scene.store.messages("c", &paging).unwrap().unwrap();
            got.extend(page.data.iter().map(|it| it["content"].as_str().unwrap().to_owned()));
            if !page.has_more {
                break;
            }
            paging.after = page.data.last().map(|it| it["id"].as_str().unwrap().to_owned());
        }
        let mut want: Vec<String> = (0..count).map(|it| it.to_string()).collect();
        if descending {
            want.reverse();
        }
        prop_assert_eq!(got, want);
    }
}
