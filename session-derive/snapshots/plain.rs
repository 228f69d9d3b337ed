#[derive(Databag)]
pub struct Shop {
    /// What is to be bought.
    cart: BTreeMap<String, u32>,
    #[databag(default = Theme::Light)]
    theme: Theme,
    name: String,
}
