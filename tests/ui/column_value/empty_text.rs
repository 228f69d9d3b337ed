use session_runtime::ColumnValue;

#[derive(ColumnValue)]
enum Plan {
    #[column(rename = "")]
    Free,
}

fn main() {}
