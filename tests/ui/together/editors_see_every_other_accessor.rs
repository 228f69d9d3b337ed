use std::collections::BTreeMap;
use std::net::IpAddr;

use session_runtime::{ColumnValue, Databag, HasIp, HasUser, Session, Sessions};

#[derive(Default, ColumnValue, serde::Serialize, serde::Deserialize)]
enum Theme {
    #[default]
    Light,
    Dark,
}

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
    #[databag(ip_addr)]
    address: Option<IpAddr>,
    #[databag(column, index)]
    tenant: Option<String>,
    #[databag(column)]
    theme: Theme,
    #[databag(flahs)]
    notice: Option<String>,
    cart: BTreeMap<String, u32>,
    tags: Vec<String>,
    name: String,
    visits: u32,
    #[databag(accessor = "opened")]
    open: bool,
}

fn use_all(shop: &mut Shop) {
    let _: (Option<i64>, Option<IpAddr>, Option<&str>) = (shop.account(), shop.address(), shop.tenant());
    let _: (&Theme, Option<&str>, &BTreeMap<String, u32>) = (shop.theme(), shop.notice(), shop.cart());
    let _: (&[String], &str, u32, bool) = (shop.tags(), shop.name(), shop.visits(), shop.opened());
    shop.account_mut().take();
    shop.tenant_mut().take();
    shop.name_mut().clear();
    shop.set_account(7);
    shop.set_tenant("acme");
    shop.set_theme(Theme::Dark);
    shop.set_notice("hello");
    shop.set_cart(BTreeMap::new());
    shop.set_tags(["new".to_owned()]);
    shop.set_name("name");
    *shop.visits_mut() += 1;
    *shop.opened_mut() = false;
    shop.set_visits(1_u32);
    shop.set_opened(true);
    shop.clear_account();
    shop.clear_tenant();
    let _ = (shop.take_account(), shop.take_tenant(), shop.take_notice());
    shop.clear_notice();
    shop.theme_mut();
    shop.notice_mut();
    shop.cart_mut().clear();
    shop.tags_mut().clear();
}

async fn handler(mut session: Session<Shop>, sessions: Sessions<Shop>) {
    use_all(&mut session);
    session.log_in(7);
    let _: (Option<i64>, Option<IpAddr>) = (HasUser::user(&*session), session.ip());
    let _ = sessions.of_user(7).await;
    let busy = Shop::TENANT.eq("acme").and(Shop::THEME.eq(Theme::Dark)).and(Shop::ACCOUNT.ge(5));
    let _ = sessions.find(busy.or(Shop::ADDRESS.is_none())).await;
}

fn main() {
    let _ = (handler, Shop::SCHEMA, Shop::defaults());
}
