use session_runtime::ColumnValue;

#[derive(ColumnValue)]
#[column(rename_all = "kebabcase")]
enum Plan {
    Free,
}

fn main() {}
