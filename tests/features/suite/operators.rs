//! What an operator reads and ends: by queries, and in the console.

use std::net::IpAddr;

use actix_web::App;
use actix_web::test::init_service;
use databag_tests::Site;
use session_runtime::{
    AnyStore, Cleanup, Console, Databag, Error, History, Keyring, SessionMiddleware, Sessions,
};

/// No column has the name that it would have by itself.
#[derive(Databag)]
#[databag(
    table = "renamed_columns",
    columns(
        id = "key",
        state = "sealed",
        user_id = "account",
        ip_addr = "origin",
        created = "begun",
        expiration = "ends",
        revision = "turn"
    )
)]
struct Renamed {
    #[databag(user_id)]
    user_id: Option<String>,
    #[databag(ip_addr)]
    ip_addr: Option<IpAddr>,
    #[databag(column = "client", index)]
    tenant: Option<String>,
    #[databag(column)]
    visits: u32,
}

#[derive(Databag)]
#[databag(table = "operated", cookie = "__Host-operated")]
struct Shop {
    #[databag(user_id)]
    user_id: Option<String>,
    #[databag(ip_addr, bind = "off")]
    ip_addr: Option<IpAddr>,
    #[databag(column = "client", index)]
    tenant: Option<String>,
    #[databag(column)]
    visits: u32,
    is_operator: bool,
}

/// Opens sessions in an empty table; `None` for those in cookies.
async fn open<T: Databag>(store: AnyStore, history: &History) -> Option<Sessions<T>> {
    let sessions = Sessions::<T>::builder(store).keyring(Keyring::generate()).cleanup(Cleanup::Never);
    let sessions = sessions.on_event(history.observer()).build().await.expect("good settings");
    match sessions.clear().await {
        Ok(_) => Some(sessions),
        Err(Error::Usage(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn an_operator_uses_columns_of_other_names(store: AnyStore) {
    let Some(sessions) = open::<Renamed>(store, &History::new()).await else { return };
    let ip_addr = Some(IpAddr::from([203, 0, 113, 7]));
    let bag = |user: &str, visits: u32| {
        let (user_id, tenant) = (Some(user.to_owned()), Some("acme".to_owned()));
        Renamed { user_id, ip_addr, tenant, visits }
    };
    let (token, dana) = sessions.create(bag("dana", 3)).await.expect("stored");
    sessions.create(bag("erik", 5)).await.expect("stored");
    let loaded = sessions.load(&token).await.expect("answers").expect("is live");
    assert_eq!((loaded.id(), loaded.visits, loaded.ip_addr), (dana.id(), 3, ip_addr));
    sessions.update(dana.id(), |shop| shop.visits = 7).await.expect("stored");
    assert_eq!(sessions.of_user("dana").await.expect("answers").len(), 1);
    assert_eq!(sessions.find(Renamed::TENANT.eq("acme")).count().await.expect("answers"), 2);
    assert_eq!(sessions.find(Renamed::VISITS.gt(5_u32)).count().await.expect("answers"), 1);
    assert_eq!(sessions.revoke_user("dana").await.expect("answers"), 1);
    assert_eq!(sessions.count_all().await.expect("answers"), 1);
}

fn customer(user: &str, tenant: &str, visits: u32) -> Shop {
    let (user_id, tenant) = (Some(user.to_owned()), Some(tenant.to_owned()));
    Shop { user_id, tenant, visits, ip_addr: Some(IpAddr::from([203, 0, 113, 7])), ..Shop::defaults() }
}

pub(crate) async fn an_operator_finds_and_ends_sessions_in_the_console(store: AnyStore) {
    let history = History::new();
    let Some(sessions) = open::<Shop>(store, &history).await else { return };
    history.follow(&sessions);
    let console = Console::new("/console", &sessions, &history, |viewer: &Shop| viewer.is_operator);
    let app = App::new().service(console).wrap(SessionMiddleware::new(sessions.clone()));
    let site = Site::new(init_service(app).await);
    let (token, _) =
        sessions.create(Shop { is_operator: true, ..customer("olga", "", 0) }).await.expect("stored");
    let olga = site.browser();
    olga.set_cookie(sessions.cookie(&token).name(), &token.encode());
    for (user, tenant) in [("dana", "acme"), ("dana", "acme"), ("erik", "other")] {
        sessions.create(customer(user, tenant, 1)).await.expect("stored");
    }
    let shown = async |page: &str| {
        let answer = olga.get(&format!("/console/{page}")).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.body);
        answer.body
    };
    for (page, part) in [
        ("overview", "<dt>Live now</dt><dd>4</dd>"),
        ("overview", "<dt>Created</dt><dd>4</dd>"),
        ("list", "4 sessions, the newest first."),
        ("list?user=dana", "2 sessions match"),
        ("list?address=203.0.113.7", "4 sessions match"),
        ("list?column.client=acme", "2 sessions match"),
        ("list?column.visits=1&user=erik", "1 session matches"),
        ("groups?by=column.client", ">acme</a></th><td>2</td>"),
        ("groups?by=user", "dana: 2 at the end"),
        ("groups?by=address", ">203.0.113.7</a></th><td>4</td>"),
    ] {
        let page_shown = shown(page).await;
        assert!(page_shown.contains(part), "{page}: {page_shown}");
    }
    let page = "/console/revoke?user=dana";
    let ended = olga.submit(page, page, &[]).await;
    assert!(ended.body.contains("2 sessions were ended."), "{}", ended.body);
    let left = sessions.find(Shop::VISITS.eq(1_u32)).count().await.expect("answers");
    assert_eq!(left, 1);
    let overview = shown("overview").await;
    assert!(overview.contains("<dt>Ended</dt><dd>2</dd>"), "{overview}");
}
