//! Masking of parsed JSON: parameters of requests for recordings, arguments of MCP tools.

use serde_json::Value;

use crate::data_class::DataClass;
use crate::detectors::Masker;
use crate::masking_run::{MaskingRun, ValueContext};
use crate::name_hints::{NameHint, holds_sibling_name};
use crate::{DataClassCount, RevealPredicate};

impl Masker {
    /// Masks in place every leaf below the JSON Pointers, timestamps too (a recording has no typed parser), and the secrets
    /// that the detectors find in the rest. A pointer that leads nowhere is ignored: optional parameters are often absent.
    pub fn mask_value(
        &self,
        value: &mut Value,
        pointers: &[String],
        reveal: RevealPredicate<'_>,
    ) -> Vec<DataClassCount> {
        let mut run = MaskingRun::new(self, reveal);
        if !pointers.is_empty() && run.must_mask(DataClass::AWS_SENSITIVE) {
            for pointer in pointers {
                if let Some(marked) = value.pointer_mut(pointer) {
                    mask_every_leaf(marked, &mut run);
                }
            }
        }
        mask_detected_secrets(value, NameHint::None, &mut run);
        run.into_counts()
    }
}

fn mask_every_leaf(value: &mut Value, run: &mut MaskingRun<'_>) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => {
            *flag = false;
            run.count_masked(&DataClass::AWS_SENSITIVE);
        }
        Value::Number(number) => {
            *number = 0.into();
            run.count_masked(&DataClass::AWS_SENSITIVE);
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => *text = run.counted_placeholder(&DataClass::AWS_SENSITIVE),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_every_leaf(item, run)),
        Value::Object(members) => members.values_mut().for_each(|member| mask_every_leaf(member, run)),
    }
}

fn mask_detected_secrets(value: &mut Value, hint: NameHint, run: &mut MaskingRun<'_>) {
    match value {
        Value::String(text) => {
            if let Some(masked) =
                run.mask_secrets(text.as_bytes(), ValueContext { name_hint: hint, ..ValueContext::default() })
            {
                *text = String::from_utf8_lossy(&masked).into_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_detected_secrets(item, hint, run)),
        Value::Object(members) => {
            let sibling = members
                .iter()
                .filter(|(key, _)| holds_sibling_name(key.as_bytes()))
                .find_map(|(_, value)| value.as_str().map(|name| NameHint::from_name(name.as_bytes())))
                .unwrap_or_default();
            let mut renamed = Vec::new();
            for (key, member) in members.iter_mut() {
                mask_detected_secrets(member, NameHint::from_name(key.as_bytes()).or(sibling).or(hint), run);
                if let Some(masked) = run.mask_secrets(key.as_bytes(), ValueContext::default()) {
                    renamed.push((key.clone(), String::from_utf8_lossy(&masked).into_owned()));
                }
            }
            for (key, masked) in renamed {
                if let Some(member) = members.remove(&key) {
                    let key = run.distinct_key(masked);
                    members.insert(key, member);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
