package remote

import (
	"strings"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/show"
	dubanv1 "duban.internal/proto/duban/v1"
)

func agencies() *cobra.Command {
	return group("agency", "Keep agencies (行政执法机关) on record", "Keep agencies (行政执法机关) on record at a running node.", agencyRegister(), agencyList())
}

func agencyRegister() *cobra.Command {
	c := write(&cobra.Command{
		Use: "register ID", Short: "Put an agency on record, or a new version of it", Args: cobra.ExactArgs(1),
		Example: "  duban agency register binhai-market --name 滨海新区市场监督管理局 --jurisdiction 120116 --system market \\\n" +
			"      --identity keys/clients/operator-120116",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		answer, err := call(t, dubanv1.NewRegistryServiceClient(t.conn).RegisterAgency, &dubanv1.RegisterAgencyRequest{
			RequestId: t.requestID(), Agency: &dubanv1.Agency{
				Id: args[0], Name: t.text("name"), Jurisdiction: t.text("jurisdiction"), System: t.text("system"),
				LegalUnitVacant: t.yes("no-legal-unit"), Items: t.list("item"),
			},
		})
		return answer.GetReceipt(), err
	})
	texts(c, "name", "name on screens", "jurisdiction", "code of the jurisdiction where it acts", "system", "line of business (系统), such as market")
	c.Flags().Bool("no-legal-unit", false, "it has no legal unit (机关法制机构): level 1 of its alerts is vacant")
	c.Flags().StringArray("item", nil, "item (事项编码) that it may act on; may be given several times")
	return c
}

func agencyList() *cobra.Command {
	c := withNode(&cobra.Command{Use: "list", Short: "List agencies by id", Args: cobra.NoArgs, Example: "  duban agency list --json"},
		func(t *talk, _ []string) error {
			limit, err := t.limit()
			if err != nil {
				return err
			}
			client := dubanv1.NewRegistryServiceClient(t.conn)
			out := &dubanv1.ListAgenciesResponse{}
			for token := ""; ; {
				page, err := call(t, client.ListAgencies, &dubanv1.ListAgenciesRequest{PageSize: int32(min(1000, limit-len(out.Agencies))), PageToken: token})
				if err != nil {
					return err
				}
				out.Agencies, token = append(out.Agencies, page.Agencies...), page.NextPageToken
				if out.NextPageToken = token; token == "" || len(out.Agencies) >= limit {
					break
				}
			}
			return t.print(out, func() error {
				table := show.NewTable("agency", "name", "jurisdiction", "system", "legal unit", "items")
				for _, a := range out.Agencies {
					table.Row(a.Id, a.Name, a.Jurisdiction, a.System, map[bool]string{true: "vacant", false: "yes"}[a.LegalUnitVacant], strings.Join(a.Items, " "))
				}
				return t.table(table, out.NextPageToken != "", "no agency")
			})
		})
	limitFlag(c)
	return c
}

func officers() *cobra.Command {
	c := write(&cobra.Command{
		Use: "register ID", Short: "Put an officer and the certificate on record, or a new version", Args: cobra.ExactArgs(1),
		Example: "  duban officer register officer-1 --name 甲 --agency binhai-market --certificate 020116001 --valid-until 2030-01-01\n" +
			"  duban officer register officer-2 --name 乙 --agency binhai-market --certificate 020116002",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		from, err := t.micros("valid-from")
		if err != nil {
			return nil, err
		}
		until, err := t.micros("valid-until")
		if err != nil {
			return nil, err
		}
		answer, err := call(t, dubanv1.NewRegistryServiceClient(t.conn).RegisterOfficer, &dubanv1.RegisterOfficerRequest{
			RequestId: t.requestID(), Officer: &dubanv1.Officer{
				Id: args[0], Name: t.text("name"), Agency: t.text("agency"), Certificate: t.text("certificate"), ValidFromUs: from, ValidUntilUs: until,
			},
		})
		return answer.GetReceipt(), err
	})
	texts(c, "name", "name", "agency", "agency, by id", "certificate", "number of the certificate (执法证件)", "valid-from", "from when it is valid; always by default",
		"valid-until", "first instant at which it is not valid any more; never by default")
	return group("officer", "Keep officers (执法人员) on record", "Keep officers (执法人员) and their certificates on record at a running node.", c)
}

func offices() *cobra.Command {
	c := write(&cobra.Command{
		Use: "register ROLE JURISDICTION", Short: "Say that the body which receives a level exists, and whether it is staffed", Args: cobra.ExactArgs(2),
		Example: "  duban office register legal_office 120116 --name 滨海新区司法局\n  duban office register legal_office 120116 --name 滨海新区司法局 --vacant",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		answer, err := call(t, dubanv1.NewRegistryServiceClient(t.conn).RegisterOffice, &dubanv1.RegisterOfficeRequest{
			RequestId: t.requestID(), Office: &dubanv1.Office{Role: args[0], Jurisdiction: args[1], Name: t.text("name"), Vacant: t.yes("vacant")},
		})
		return answer.GetReceipt(), err
	})
	texts(c, "name", "name on screens")
	c.Flags().Bool("vacant", false, "nobody is in it: its level is passed at once")
	return group("office", "Keep offices (政府法制机构) that receive alerts on record", "Keep offices (政府法制机构) that receive levels of alerts on record at a running node.", c)
}
