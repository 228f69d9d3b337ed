//! A program without the feature `bincode`: `tests/run` builds this file with no feature but `sqlite`.

use std::collections::BTreeMap;

use session_runtime::{Databag, Keyring, Sessions, SqliteStore};

#[derive(Clone, Debug, PartialEq, Databag)]
#[databag(codec = "json")]
struct Shop {
    user_id: Option<i64>,
    cart: BTreeMap<String, u32>,
    #[databag(merge = "append")]
    visited: Vec<String>,
}

#[tokio::test]
async fn a_bag_that_names_its_codec_needs_no_bincode() {
    let store = SqliteStore::in_memory().expect("a database");
    let sessions =
        Sessions::<Shop>::builder(store).keyring(Keyring::generate()).build().await.expect("starts");
    let mut shop = Shop {
        user_id: Some(7),
        cart: BTreeMap::from([("pen".to_owned(), 2)]),
        visited: vec!["/pens".to_owned()],
    };
    let (token, session) = sessions.create(shop.clone()).await.expect("is stored");
    sessions.update(session.id(), |bag| bag.visited.push("/ink".to_owned())).await.expect("is stored");
    shop.visited.push("/ink".to_owned());
    let loaded = sessions.load(&token).await.expect("answers").expect("it lives");
    assert_eq!(loaded.into_bag(), shop);
}
