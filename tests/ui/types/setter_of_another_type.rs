use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    theme: Theme,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Theme;

fn main() {
    Shop::defaults().set_theme("dark");
}
