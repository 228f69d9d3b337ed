use session_runtime::ColumnValue;

#[derive(ColumnValue)]
enum Plan {
    #[column(rename_all = "lowercase")]
    Free,
}

fn main() {}
