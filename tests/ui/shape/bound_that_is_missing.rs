use session_runtime::Databag;

#[derive(Databag)]
struct Shop<T> {
    items: Vec<T>,
}

struct Line;

fn main() {
    <Shop<Line> as Databag>::defaults();
}
