use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = "max")]
    theme: Theme,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Theme;

fn main() {}
