#[derive(Databag)]
#[databag(accessors = false)]
struct Shop {
    cart: HashMap<String, u32>,
    #[databag(merge = "sum")]
    visits: u32,
    #[databag(merge = longer)]
    note: String,
    #[databag(merge = "reject")]
    address: String,
}
