//! The derive
use session_runtime::Databag;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Theme {
    Light,
    Dark,
}

/// A shop's session.
#[derive(Databag)]
#[databag(table = "sessions", cookie = "__Host-shop", idle = "30m", absolute = "12h")]
pub struct ShopSession {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(ip_addr)]
    ip_addr: Option<IpAddr>,
    #[databag(column, index)]
    tenant: Option<String>,
    #[databag(flash)]
    notice: Option<String>,
    cart: BTreeMap<String, u32>,
    #[databag(default = Theme::Light)]
    theme: Theme,
}

#[test]
fn works() {
    let mut bag = ShopSession::defaults();
    bag.set_notice("hi");
    assert_eq!(bag.notice(), Some("hi"));
    println!("{:?}", ShopSession::SCHEMA);
}
