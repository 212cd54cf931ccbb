package demo

import (
	"fmt"
	"math/rand/v2"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Cases are made up in the fields of the national penalty disclosure list (CF_...) and marked as generated wherever they
// are shown.

var acts = []string{"占道经营", "擅自设置户外广告", "未按规定分类投放生活垃圾", "施工噪声扰民", "擅自占用绿地"}

// opening is a made-up case of an agency.
func opening(code jurisdiction.Code, id string, procedure string, r *rand.Rand) *dubanv1.CaseOpened {
	act := acts[r.IntN(len(acts))]
	return &dubanv1.CaseOpened{
		CaseId: id, Number: "演示罚字〔2026〕" + id + "号", Agency: agencyID(code), Item: item, Procedure: procedure,
		Source: sources[procedure], Summary: act + "(演示数据)", Handler: hands(code)[0], Generated: true,
		Party:  &dubanv1.Party{Name: fmt.Sprintf("演示当事人%04d", r.IntN(10000)), Kind: "citizen"},
		Fields: map[string]string{"address": "演示路" + fmt.Sprint(1+r.IntN(200)) + "号"},
	}
}

// What the demo's profile calls things. The demo is written for one profile, configs/profiles/tianjin.
const (
	penalty    = "penalty_general"
	inspection = "inspection"
	filing     = "filing"
	inquiry    = "investigation"
	dropping   = "withdrawal"
	onSite     = "inspection"
)

var sources = map[string]string{penalty: "patrol", inspection: "plan"}

// filed is the stage that files a penalty case.
func filed(code jurisdiction.Code, id string, at time.Time) *dubanv1.StageRecorded {
	return &dubanv1.StageRecorded{
		CaseId: id, Stage: filing, CompletedUs: clock.Micros(at), Handler: hands(code)[0],
		Opinion:   &dubanv1.Opinion{Result: "filed"},
		Documents: []*dubanv1.Document{{Name: "filing_approval", Code: "DEMO-" + id + "-1"}},
		Fields:    map[string]string{"cause": "演示案由"},
	}
}

// investigated is the stage of an investigation by the given number of officers.
func investigated(code jurisdiction.Code, id string, at time.Time, officers int) *dubanv1.StageRecorded {
	return &dubanv1.StageRecorded{
		CaseId: id, Stage: inquiry, CompletedUs: clock.Micros(at), Handler: hands(code)[0], Officers: hands(code)[:officers],
		Documents: []*dubanv1.Document{{Name: "investigation_report", Code: "DEMO-" + id + "-2"}},
		Fields:    map[string]string{"certificate_shown": "yes"},
	}
}

// withdrawn is the stage that withdraws the filing, without saying why.
func withdrawn(code jurisdiction.Code, id string, at time.Time) *dubanv1.StageRecorded {
	return &dubanv1.StageRecorded{
		CaseId: id, Stage: dropping, CompletedUs: clock.Micros(at), Handler: hands(code)[0],
		Opinion:   &dubanv1.Opinion{Result: "withdrawn"},
		Documents: []*dubanv1.Document{{Name: "withdrawal_approval", Code: "DEMO-" + id + "-3"}},
	}
}

// inspected is the stage of an inspection; record is its uploaded document.
func inspected(code jurisdiction.Code, id string, at time.Time, record []byte) *dubanv1.StageRecorded {
	return &dubanv1.StageRecorded{
		CaseId: id, Stage: onSite, CompletedUs: clock.Micros(at), Handler: hands(code)[0], Officers: hands(code)[:2],
		Documents: []*dubanv1.Document{{Name: "inspection_record", Code: "DEMO-" + id + "-1", Sha256: record}},
		Fields: map[string]string{
			"basis": "演示检查依据", "inspected_on": at.Format(time.DateOnly), "certificate_shown": "yes",
		},
	}
}
