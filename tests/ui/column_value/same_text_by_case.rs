use session_runtime::ColumnValue;

#[derive(ColumnValue)]
#[column(rename_all = "lowercase")]
enum Plan {
    ProPlus,
    Proplus,
}

fn main() {}
