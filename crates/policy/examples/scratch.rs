use std::path::Path;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    match durward_policy::PolicySet::load(Path::new(&dir), durward_catalog::Catalog::embedded()) {
        Ok(s) => println!("{s:?}"),
        Err(e) => println!("{e}"),
    }
    match durward_policy::run_cases(Path::new(&dir), durward_catalog::Catalog::embedded()) {
        Ok(all) => {
            for o in all {
                println!("{} {:?}", o.name, o.failure.is_none());
                if let Some(f) = o.failure {
                    println!("{f}")
                }
            }
        }
        Err(e) => println!("{e}"),
    }
}
