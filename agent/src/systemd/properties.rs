//! Unit properties from D-Bus to plain data. Values of another type than expected are left out, never guessed.

use std::collections::HashMap;

use plan::observed::{UnitChange, UnitCondition, UnitJob, UnitLoadError, UnitState};
use zbus::Variant;

use super::name::hex;
use zbus::message::Body;

/// The interface of every unit.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The interface of services.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Names and values of one interface.
pub(super) type Properties<'a> = HashMap<&'a str, Variant<'a>>;

/// Takes over what the answer to `GetAll` says.
pub(super) fn fill(unit: &mut UnitState, body: &Body) -> zbus::Result<()> {
    let all: Properties<'_> = body.deserialize()?;
    change(&all).apply_to(unit);
    let text = |name: &str, to: &mut String| {
        if let Some(value) = get::<&str>(&all, name) {
            value.clone_into(to);
        }
    };
    text("LoadState", &mut unit.load_state);
    text("FragmentPath", &mut unit.fragment_path);
    text("ControlGroup", &mut unit.control_group);
    if let Some(stale) = get(&all, "NeedDaemonReload") {
        unit.need_daemon_reload = stale;
    }
    if let Some(paths) = all.get("DropInPaths") {
        unit.drop_in_paths = strings(paths);
    }
    if let Some(Variant::Structure(job)) = all.get("Job")
        && let Some(Variant::U32(id)) = job.fields().first()
    {
        unit.job = (*id != 0).then(|| UnitJob { id: *id, kind: String::new() });
    }
    if let Some(Variant::Structure(error)) = all.get("LoadError") {
        unit.load_error = load_error(error.fields());
    }
    if let Some(Variant::Array(conditions)) = all.get("Conditions").filter(|_| !unit.condition_result) {
        unit.conditions = conditions.iter().filter_map(condition).collect();
    }
    Ok(())
}

/// What a `PropertiesChanged` or `GetAll` of either interface says.
pub(super) fn change(all: &Properties<'_>) -> UnitChange {
    let text = |name: &str| get::<&str>(all, name).map(str::to_owned);
    UnitChange {
        active_state: text("ActiveState"),
        sub_state: text("SubState"),
        result: text("Result"),
        invocation_id: all.get("InvocationID").and_then(id),
        main_pid: get(all, "MainPID"),
        exec_main_code: get(all, "ExecMainCode"),
        exec_main_status: get(all, "ExecMainStatus"),
        exec_main_start_us: get(all, "ExecMainStartTimestamp"),
        exec_main_exit_us: get(all, "ExecMainExitTimestamp"),
        state_change_us: get(all, "StateChangeTimestamp"),
        condition_result: get(all, "ConditionResult"),
        condition_us: get(all, "ConditionTimestamp"),
        assert_result: get(all, "AssertResult"),
    }
}

fn get<'a, T>(all: &'a Properties<'_>, name: &str) -> Option<T>
where
    T: TryFrom<&'a Variant<'a>>,
{
    all.get(name).and_then(|value| T::try_from(value).ok())
}

/// No invocation is an empty array.
fn id(value: &Variant<'_>) -> Option<String> {
    let Variant::Array(bytes) = value else { return None };
    let bytes: Option<Vec<u8>> = bytes.iter().map(|byte| u8::try_from(byte).ok()).collect();
    bytes.map(|bytes| if bytes.iter().all(|byte| *byte == 0) { String::new() } else { hex(&bytes) })
}

fn strings(value: &Variant<'_>) -> Vec<String> {
    let Variant::Array(items) = value else { return Vec::new() };
    items.iter().filter_map(|item| <&str>::try_from(item).ok()).map(str::to_owned).collect()
}

fn load_error(fields: &[Variant<'_>]) -> Option<UnitLoadError> {
    let [name, message] = fields else { return None };
    let (name, message) = (<&str>::try_from(name).ok()?, <&str>::try_from(message).ok()?);
    (!name.is_empty()).then(|| UnitLoadError { name: name.to_owned(), message: message.to_owned() })
}

fn condition(value: &Variant<'_>) -> Option<UnitCondition> {
    let Variant::Structure(fields) = value else { return None };
    let [name, trigger, negate, parameter, state] = fields.fields() else { return None };
    Some(UnitCondition {
        name: <&str>::try_from(name).ok()?.to_owned(),
        trigger: bool::try_from(trigger).ok()?,
        negate: bool::try_from(negate).ok()?,
        parameter: <&str>::try_from(parameter).ok()?.to_owned(),
        state: i32::try_from(state).ok()?,
    })
}
