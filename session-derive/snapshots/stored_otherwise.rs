#[derive(Databag)]
#[databag(codec = "json", rename_all = "camelCase", accessors = false)]
struct Shop {
    #[databag(with = hex)]
    pin_code: u128,
    #[databag(alias = "count", from = u8)]
    visits: u32,
    #[databag(skip)]
    seen: bool,
    #[databag(flash, keep_on_logout)]
    notice: Option<String>,
}
