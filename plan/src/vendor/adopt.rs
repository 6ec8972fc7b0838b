//! The whole of a vendor's unit.

use super::{VendorContext, VendorService, VendorUnit, unit_refusal};
use crate::note::Refusal;

/// Takes a vendor's unit over, or says every reason why a container cannot be made of it.
pub fn adopt(unit: &VendorUnit, _ctx: &VendorContext<'_>) -> Result<VendorService, Vec<Refusal>> {
    Err(vec![unit_refusal(&unit.name, "vendor units are not read yet")])
}
