//! The names that a file defines.

use syn::visit::{self, Visit};

/// What the product code of a crate defines.
#[derive(Default)]
pub struct Definitions {
    /// Structs, enums, traits and type aliases.
    pub types: Vec<String>,
    /// Those, and functions, methods, constants, statics and modules. A method of a foreign trait is not the crate's name.
    pub names: Vec<String>,
    /// Signatures that return `Result<_, String>`.
    pub string_errors: usize,
}

impl Definitions {
    /// Adds what `file` defines.
    pub fn read(&mut self, file: &syn::File) {
        self.visit_file(file);
    }

    fn add_type(&mut self, ident: &syn::Ident) {
        self.types.push(ident.to_string());
        self.names.push(ident.to_string());
    }

    fn add_signature(&mut self, signature: &syn::Signature, is_own_name: bool) {
        if is_own_name {
            self.names.push(signature.ident.to_string());
        }
        if let syn::ReturnType::Type(_, returned) = &signature.output
            && returns_string_error(returned)
        {
            self.string_errors += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Definitions {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add_type(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add_type(&item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add_type(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add_type(&item.ident);
        for member in &item.items {
            if let syn::TraitItem::Fn(method) = member {
                self.add_signature(&method.sig, true);
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        for member in &item.items {
            match member {
                syn::ImplItem::Fn(method) => self.add_signature(&method.sig, item.trait_.is_none()),
                syn::ImplItem::Const(constant) if item.trait_.is_none() => {
                    self.names.push(constant.ident.to_string());
                }
                _ => {}
            }
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add_signature(&item.sig, true);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.names.push(item.ident.to_string());
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.names.push(item.ident.to_string());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.names.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
    }
}

fn returns_string_error(returned: &syn::Type) -> bool {
    let syn::Type::Path(path) = returned else { return false };
    let Some(last) = path.path.segments.last().filter(|last| last.ident == "Result") else { return false };
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return false };
    let Some(syn::GenericArgument::Type(syn::Type::Path(error))) = arguments.args.iter().nth(1) else {
        return false;
    };
    error.path.is_ident("String")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_count_and_foreign_ones_do_not() {
        let file = syn::parse_str(
            "mod inner { pub struct One; } trait Two { fn three(&self) -> Result<(), String>; } \
             impl std::fmt::Display for One { fn fmt(&self) {} } impl One { const FOUR: u8 = 4; fn five() {} }",
        )
        .unwrap();
        let mut definitions = Definitions::default();
        definitions.read(&file);
        assert_eq!(definitions.types, ["One", "Two"]);
        assert_eq!(definitions.names, ["inner", "One", "Two", "three", "FOUR", "five"]);
        assert_eq!(definitions.string_errors, 1);
    }
}
