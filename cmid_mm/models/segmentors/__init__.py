# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
