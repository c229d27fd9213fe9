//! The part of a policy that is left to evaluate once the index has matched its scope.
//!
//! The expressions are Cedar's own without their source locations. The evaluator copies the location of every expression that it
//! visits, and all locations of a file share one reference count: the threads of the gateway would contend for it.

use crate::scope_index::IndexMatch;
use cedar_policy_core::ast::{Expr, ExprKind, Policy};

/// `None`: the policy has no condition beyond its scope.
pub(crate) fn residual_condition(policy: &Policy, index_match: IndexMatch) -> Option<Expr> {
    let whole = match index_match {
        IndexMatch::Exact => policy.non_scope_constraints()?.clone(),
        IndexMatch::Approximate => policy.condition(),
    };
    let stripped = without_source_locations(&whole);
    // Cedar's equality of expressions ignores locations. If it finds a difference, the rebuilding below does not know some new
    // kind of expression, and the original is kept.
    Some(if stripped == whole { stripped } else { whole })
}

fn without_source_locations(expression: &Expr) -> Expr {
    rebuild_expression(expression, &mut |_part| None)
}

/// Builds the expression anew, without source locations. `replace` may give another expression for any part, which then is not
/// visited further.
pub(crate) fn rebuild_expression(expression: &Expr, replace: &mut impl FnMut(&Expr) -> Option<Expr>) -> Expr {
    if let Some(replacement) = replace(expression) {
        return replacement;
    }
    let mut rebuild = |part: &Expr| rebuild_expression(part, replace);
    match expression.expr_kind() {
        ExprKind::Lit(literal) => Expr::val(literal.clone()),
        ExprKind::Var(variable) => Expr::var(*variable),
        ExprKind::If { test_expr, then_expr, else_expr } => {
            Expr::ite(rebuild(test_expr), rebuild(then_expr), rebuild(else_expr))
        }
        ExprKind::And { left, right } => Expr::and(rebuild(left), rebuild(right)),
        ExprKind::Or { left, right } => Expr::or(rebuild(left), rebuild(right)),
        ExprKind::UnaryApp { op, arg } => Expr::unary_app(*op, rebuild(arg)),
        ExprKind::BinaryApp { op, arg1, arg2 } => Expr::binary_app(*op, rebuild(arg1), rebuild(arg2)),
        ExprKind::ExtensionFunctionApp { fn_name, args } => {
            Expr::call_extension_fn(fn_name.clone(), args.iter().map(rebuild).collect())
        }
        ExprKind::GetAttr { expr, attr } => Expr::get_attr(rebuild(expr), attr.clone()),
        ExprKind::HasAttr { expr, attr } => Expr::has_attr(rebuild(expr), attr.clone()),
        ExprKind::ExtHasAttr { expr, attrs } => Expr::extended_has_attr(rebuild(expr), attrs.clone()),
        ExprKind::Like { expr, pattern } => Expr::like(rebuild(expr), pattern.clone()),
        ExprKind::Is { expr, entity_type } => Expr::is_entity_type(rebuild(expr), entity_type.clone()),
        ExprKind::Set(items) => Expr::set(items.iter().map(rebuild)),
        ExprKind::Record(fields) => {
            let fields = fields.iter().map(|(name, field)| (name.clone(), rebuild(field)));
            Expr::record(fields).unwrap_or_else(|_error| expression.clone())
        }
        ExprKind::Slot(_) | ExprKind::Unknown(_) => expression.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_part_and_no_source_location() {
        let text = "permit (principal is Caller in Group::\"g\", action in [Action::\"a\", Action::\"b\"], resource) \
                    when { if context.a then !context.b else -context.n * 2 + 1 - context.m <= 7 } \
                    when { context has a.b && context.s like \"x*\" || resource has t && [1, 2].contains(context.n) } \
                    when { {a: principal, b: [\"x\"]}.b.containsAll(context.l) && resource is Aws::Resource } \
                    unless { ip(\"10.0.0.1\").isInRange(ip(\"10.0.0.0/8\")) && context[\"x y\"] != Group::\"g\" } \
                    unless { resource.hasTag(\"a\") && resource.getTag(\"a\") == \"b\" || context.l.isEmpty() };";
        let policy = cedar_policy::Policy::parse(None, text).expect("the test's policy parses");
        let policy: &Policy = policy.as_ref();
        for index_match in [IndexMatch::Exact, IndexMatch::Approximate] {
            let kept = residual_condition(policy, index_match).expect("it has conditions");
            let whole = match index_match {
                IndexMatch::Exact => policy.non_scope_constraints().expect("it has conditions").clone(),
                IndexMatch::Approximate => policy.condition(),
            };
            assert_eq!(kept, whole);
            assert!(whole.subexpressions().any(|part| part.source_loc().is_some()));
            assert!(kept.subexpressions().all(|part| part.source_loc().is_none()));
        }
    }
}
